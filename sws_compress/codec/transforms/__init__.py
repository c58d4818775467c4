"""What happens around an encoding: dead slices, other types, scales, and the shapes of tensors."""
