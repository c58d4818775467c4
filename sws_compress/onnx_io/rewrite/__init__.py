"""Exported graphs in fewer nodes, with the same arithmetic."""
