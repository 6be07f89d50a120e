"""Embeddings of behaviours, computed once ever and kept."""
