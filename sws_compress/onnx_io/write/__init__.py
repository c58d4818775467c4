"""Graphs rewritten, and files written."""
