"""Measurements of monitorkit beside its peers, each one command: `python -m benchmarks.serving`."""
