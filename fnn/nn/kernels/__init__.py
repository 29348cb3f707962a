"""Kernels: the operations whose speed decides a training step, each written once and differentiable in every mode."""
