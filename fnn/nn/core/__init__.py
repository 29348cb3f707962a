"""What layers share: composites, affine maps, windows, reparametrization."""
