"""Layers that only move numbers."""
