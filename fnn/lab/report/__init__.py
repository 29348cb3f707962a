"""Reports of runs and searches as one HTML file."""
