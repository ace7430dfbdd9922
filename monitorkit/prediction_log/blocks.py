"""What a reading gives: `Block`s of rows, and the cursor after each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitorkit.contracts import Chunk
from monitorkit.prediction_log.parsing import Rows

Cursor = Mapping[str, int]
"""Segment identity to byte offset: the rows before it were read."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one model version and one schema, in log order.

    Attributes:
        model_version: of all rows.
        chunk: the rows.
        cursor: after them; pass it to `Reader.read` to go on.
        segment: the identity of the segment that they are from.
        ends: (rows,) the cursor's offset in that segment after each row.
    """

    model_version: str
    chunk: Chunk
    cursor: Cursor
    segment: str
    ends: NDArray[np.int64]


def runs(rows: Rows, columns: tuple[str, ...]) -> Iterator[tuple[str, Chunk, NDArray[np.int64]]]:
    """Neighbouring rows of one model version, and where their lines end."""
    changes = np.flatnonzero(np.diff(rows.versions)) + 1
    edges = [0, *changes.tolist(), len(rows.versions)]
    for first, last in pairwise(edges):
        part = slice(first, last)
        chunk = Chunk(
            rows.ids[part], rows.times[part], columns, rows.features[part], rows.scores[part]
        )
        yield rows.names[rows.versions[first]], chunk, rows.ends[part]
