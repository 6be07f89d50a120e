"""What backbones share that run their model in this process."""
