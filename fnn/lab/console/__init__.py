"""Terminal output of a run: header, preflight checks, progress bar, table of epochs, summary."""
