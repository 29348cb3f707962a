"""Recurrent layers, which process a sequence step by step."""
