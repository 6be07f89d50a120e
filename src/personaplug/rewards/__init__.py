"""Rewards: how much an answer is worth by one taste; a file each."""
