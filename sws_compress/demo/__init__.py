"""The main job once, on real data: LeNet-300-100 on MNIST."""
