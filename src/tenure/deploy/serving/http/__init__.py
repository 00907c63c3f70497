"""The doors over HTTP: parse a request, hand it to the core, write the reply."""
