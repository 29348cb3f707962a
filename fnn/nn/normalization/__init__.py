"""Layers and weights brought to zero mean and unit variance, or to unit norm."""
