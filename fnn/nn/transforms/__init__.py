"""Transforms of one layer into another: Layer -> Layer."""
