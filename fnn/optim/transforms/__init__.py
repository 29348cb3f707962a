"""Optimizers made of optimizers: each takes one, fnn's or another library's, and gives one."""
