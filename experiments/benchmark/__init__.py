"""Speed, measured beside PyTorch and plain Flax."""
