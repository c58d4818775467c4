"""What a person sees and reads: results, errors, the progress bar and the log."""
