"""What was promised: the project file."""
