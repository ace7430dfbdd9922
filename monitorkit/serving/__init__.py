"""The HTTP service: spine 1, from a request to its logged answer."""
