"""What happened: inputs, log, labels, state."""
