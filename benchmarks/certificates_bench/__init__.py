"""Certificates on real data: populations, draws, methods, a peer."""
