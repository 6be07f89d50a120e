"""What answers are worth, and intervals for what is compared."""
