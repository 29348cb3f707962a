"""A window, a region or a whole image becomes one value a channel."""
