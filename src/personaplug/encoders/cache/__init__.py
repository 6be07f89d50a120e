"""Embeddings of behaviours, computed once ever."""
