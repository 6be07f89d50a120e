"""What a library user calls: build, train, save, use."""
