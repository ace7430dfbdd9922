"""Fixtures of `monitoring_place`."""

from monitoring_place import place, worker

__all__ = ["place", "worker"]
