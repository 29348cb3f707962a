"""Data sets from files and downloads; the only part of the package `data` that touches the disk."""
