"""Optimizers, each as its paper writes it: θ the params, g their gradient, t = 1, 2, ... the step; slots begin at 0.

Every one takes a rate that is a number or a schedule, and every number may be traced. ConfigError for a number out of
range, DTypeError for params that are no floats, TreeMismatchError for gradients unlike the params.
"""
