"""What every other room stands on: the types, errors, configuration and the registry of shelves."""
