"""What backbones share whose model is served elsewhere."""
