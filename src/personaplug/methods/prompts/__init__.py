"""Behaviours, or words about a user, written into a request."""
