"""Bytes of unknown origin, checked and read as models."""
