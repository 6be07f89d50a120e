"""Methods decide what a frozen model sees of a user; a file here is looked up by its name."""
