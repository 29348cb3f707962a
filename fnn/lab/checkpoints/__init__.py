"""Checkpoints: one folder for each step, which is complete or absent.

step_000000120/
    data.bin         the leaves, one right after another, raw little-endian bytes
    manifest.json    step, notes, score, versions; each leaf's path, shape, dtype, offset, SHA-256
    COMMIT           the SHA-256 of manifest.json
"""
