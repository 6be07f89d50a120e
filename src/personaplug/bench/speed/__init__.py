"""How fast personal answers are, in ratios to what they are measured beside: `personaplug benchmark`."""
