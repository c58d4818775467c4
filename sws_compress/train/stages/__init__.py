"""The stages of the alternating loop."""
