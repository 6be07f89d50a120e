"""Building and describing sets of answers to simulate users on."""
