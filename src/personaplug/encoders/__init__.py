"""Encoders turn texts into vectors; the registry looks them up by file name."""
