"""Degrees of automation and the certificates behind them."""
