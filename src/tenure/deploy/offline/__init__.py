"""Score whole files and tables with an endpoint's version: exactly once, and logged as the online path logs."""
