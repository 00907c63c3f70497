"""Loaders of model files."""
