"""Tasks say what is asked, what the right answer is and how answers are scored; a file here is loaded by its name."""
