"""What the top package offers: register a version, serve it, ask it, mount it elsewhere."""
