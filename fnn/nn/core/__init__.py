"""Code that layers share: composites, affine maps, windows, reparametrization."""
