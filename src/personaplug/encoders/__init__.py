"""Encoders turn texts into vectors; a file here is found by its name."""
