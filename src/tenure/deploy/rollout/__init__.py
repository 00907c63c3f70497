"""Replacing a version step by step, on evidence."""
