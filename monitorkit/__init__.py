"""The API for plugin authors, and `compare` for notebooks."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from monitorkit.frame_comparison import compare

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
    "compare",
    "excluded",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """`compare` brings plugins along, which whoever writes one does not need."""
    if name != "compare":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from monitorkit.frame_comparison import compare  # noqa: PLC0415 - lazy, see above

    return compare
