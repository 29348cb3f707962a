"""Metrics per example and of whole data sets."""
