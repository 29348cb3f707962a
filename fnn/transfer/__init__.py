"""Transfer of trained networks: features, linear probes, nearest neighbors, fine-tuning."""

from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())
