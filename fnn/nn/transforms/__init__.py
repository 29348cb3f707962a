"""A layer becomes another layer: Layer -> Layer."""
