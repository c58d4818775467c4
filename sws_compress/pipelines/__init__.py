"""From model to file, one file per way."""
