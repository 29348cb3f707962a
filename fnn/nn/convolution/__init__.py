"""Convolution layers: one set of weights for all positions of a signal, an image or a volume."""
