"""The idea: from a history to soft tokens. Knows torch and nothing of the rest of the package."""
