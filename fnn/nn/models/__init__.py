"""Published networks, built from the layers of fnn.nn."""
