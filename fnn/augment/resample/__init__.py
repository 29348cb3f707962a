"""How pixels are moved: windows, scaling and warps."""
