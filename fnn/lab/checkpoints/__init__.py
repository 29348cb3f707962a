"""Checkpoints: a folder a step, there whole or not at all.

step_000000120/
    data.bin         the leaves, one right after another, raw little-endian bytes
    manifest.json    step, notes, score, versions; of each leaf its path, shape, dtype, offset, SHA-256
    COMMIT           the SHA-256 of manifest.json
"""
