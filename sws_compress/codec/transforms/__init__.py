"""What happens to symbols or decoded tensors around an encoding."""
