"""The main job once, on real data: LeNet-300-100 on MNIST."""

from pathlib import Path

DATA = Path(__file__).parent / "data"
"""Folder of MNIST and of the pretrained network; it is part of the installed package."""
