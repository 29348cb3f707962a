"""Known networks, each a page built from the pieces of this room."""
