"""Weights shared over the places of a signal, an image or a volume."""
