"""The API for plugin authors."""

from monitorkit.contracts import (
    SCORE_COLUMN,
    Bucket,
    Chunk,
    Finding,
    Judgement,
    Monitor,
    Options,
    Outcome,
    RunResult,
    Sink,
    SinkContext,
    Timeline,
    excluded,
)
from monitorkit.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = [
    "SCORE_COLUMN",
    "Bucket",
    "Chunk",
    "Finding",
    "Judgement",
    "Monitor",
    "Options",
    "Outcome",
    "RunResult",
    "Sink",
    "SinkContext",
    "Timeline",
    "excluded",
    "hookimpl",
]
