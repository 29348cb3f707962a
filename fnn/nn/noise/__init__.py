"""Noise that regularizes: numbers, channels, weights or whole paths dropped by chance."""
