"""Kernels: operations whose speed decides a training step, differentiable in every mode."""
