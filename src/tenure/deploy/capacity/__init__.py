"""Find out whether an endpoint holds its promises under load, and what it will need."""
