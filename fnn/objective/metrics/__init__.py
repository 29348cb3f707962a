"""Metrics of examples and of whole data sets."""
