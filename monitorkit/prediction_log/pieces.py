"""A reading in pieces, which can be read anywhere and in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from monitorkit.prediction_log.blocks import Cursor


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a segment; it owns the lines that start in it.

    Attributes:
        folder: of the segment, as it was configured.
        name: of the segment's file when it was planned.
        identity: of the segment, by which it is found when its file has another name by now.
        start: any byte.
        end: any byte; the last line may reach beyond it.
        size: up to which the segment is read.
        ended: whether the segment ended there.
    """

    folder: str
    name: str
    identity: str
    start: int
    end: int
    size: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to read.

    Attributes:
        pieces: in the order of reading.
        cursor: after all of them.
    """

    pieces: tuple[Piece, ...]
    cursor: Cursor


def split(whole: Piece, piece_bytes: int) -> Iterator[Piece]:
    """A piece in pieces of so many bytes."""
    for start in range(whole.start, whole.end, piece_bytes):
        yield replace(whole, start=start, end=min(start + piece_bytes, whole.end))
