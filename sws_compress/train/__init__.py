"""Torch: which parameters, the pull, the alternating loop, the hard stage, codebook tuning."""
