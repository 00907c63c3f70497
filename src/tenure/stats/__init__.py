"""Numerics without I/O."""
