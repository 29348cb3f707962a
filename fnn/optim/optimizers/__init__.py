"""Optimizers in the notation of their papers.

θ are the params, g is their gradient, t = 1, 2, ... the step; other letters begin at 0 unless
stated. All numbers may be traced. ConfigError for a number out of range, DTypeError for params that
are not floats, TreeMismatchError for gradients unlike the params.
"""
