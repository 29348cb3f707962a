"""Functions that bend: of each number alone, and across the features."""
