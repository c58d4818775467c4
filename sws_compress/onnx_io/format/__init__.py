"""What a compressed file looks like: the one description that writer, reader, expansion and inspection share."""
