"""The monitoring: spine 2, from new rows to a committed result."""
