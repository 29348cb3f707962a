"""Transforms of optimizers: each takes an optimizer, also of another library, and returns one."""
