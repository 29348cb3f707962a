"""Data sets from files: published ones, fetched once, and one's own; the only part of the room that touches disk."""
