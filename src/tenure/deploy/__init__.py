"""How a model answers, how far it is trusted, and how it is replaced."""
