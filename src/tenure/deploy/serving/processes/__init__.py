"""The processes of a node: supervisor, workers, and the page of memory that they share."""
