"""The Open Inference Protocol (v2): the endpoints as models that any of its clients can call."""
