"""Combinators: layers made of several layers."""
