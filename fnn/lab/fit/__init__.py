"""The training loop of `lab.fit`: data sources, checkpoints, history, timing and signals."""
