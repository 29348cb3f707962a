"""Attention, and the blocks of transformers."""
