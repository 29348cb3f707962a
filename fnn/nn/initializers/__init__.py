"""Initializers: initial values of parameters."""
