"""The command line."""

from __future__ import annotations

from tenure.cli.app import main

__all__ = ["main"]
