"""Stores of users' behaviours, vectors and prepared states; the registry looks them up by file name."""
