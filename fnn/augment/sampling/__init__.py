"""Moved pixels, by the cheapest way that a move allows."""
