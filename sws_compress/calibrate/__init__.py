"""Arrays only: what inputs of a network tell about its weights, and weights that are assigned with that knowledge."""
