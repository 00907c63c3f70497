"""The management API and the page."""
