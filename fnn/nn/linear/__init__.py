"""Linear maps of the features."""
