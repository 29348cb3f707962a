"""Policies of the literature, by their names."""
