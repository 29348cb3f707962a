"""Attention layers and the transformer block."""
