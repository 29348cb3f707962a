"""Tokens as vectors, and where they stand."""
