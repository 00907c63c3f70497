"""The processes of a node: the supervisor and its workers."""
