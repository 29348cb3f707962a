"""Export of trained networks to programs that run without fnn, and their model cards."""
