"""The stages of training: soft, hard, codebook tuning."""
