"""Methods decide what a frozen model sees of a user; a file here is found by its name."""
