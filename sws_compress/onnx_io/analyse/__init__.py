"""What a graph says about its weights."""
