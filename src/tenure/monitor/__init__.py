"""Watching inputs, outputs and software; drift and alarms."""
