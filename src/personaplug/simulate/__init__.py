"""Simulated users: tastes as weights of rewards, what they say of answers, and how much they differ."""
