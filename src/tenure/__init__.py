"""Run a trained model in production and let it earn its place."""

__version__ = "0.1.0"
