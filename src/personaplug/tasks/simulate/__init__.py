"""Simulated users: weights of rewards, what they say of answers, how they differ."""
