"""Graphs as torch modules that have gradients: each operator in a table, nothing evaluated that a file holds."""
