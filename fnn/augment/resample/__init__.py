"""Resampling of pixels: windows, antialiased scaling and general warps."""
