"""The control plane's loop."""
