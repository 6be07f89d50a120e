"""Training loops and what they minimize."""
