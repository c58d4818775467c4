"""What the graph says about its weights."""
