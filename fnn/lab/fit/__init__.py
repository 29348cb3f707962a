"""The fit loop: compiled segments of steps, with progress, logs, checkpoints and signals between them."""
