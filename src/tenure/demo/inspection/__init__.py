"""A factory that inspects phones: a detector earns its place beside human inspectors."""
