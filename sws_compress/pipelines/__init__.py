"""Pipelines from a model to a file, one file per way."""
