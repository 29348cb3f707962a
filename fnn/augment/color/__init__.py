"""Augmentations of levels and colors."""
