"""Augmentations of intensities and colors."""
