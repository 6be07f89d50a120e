"""Stores keep users' behaviours, vectors and prepared states; a file here is found by its name."""
