"""The predict path: admit, route, run, rule, log, answer; it knows nothing of HTTP."""
