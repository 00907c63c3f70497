"""The data plane: workers that answer requests."""
