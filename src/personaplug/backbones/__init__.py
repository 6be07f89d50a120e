"""Backbones are the frozen language models; a file here is found by its name."""
