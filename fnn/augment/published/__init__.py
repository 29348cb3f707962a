"""Augmentation policies of the literature."""
