"""Arrays only: weights in, palettes out."""
