"""Who is let in, as whom, how often and how much."""
