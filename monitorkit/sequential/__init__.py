"""Verdicts that hold over the whole life of a monitor: sequential tests on exact counts."""
