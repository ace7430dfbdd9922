"""A reference and a window of one column, counted cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitorkit import Chunk
from monitorkit.cells import ColumnCells, ReferenceCells


def one_column(values: Sequence[float] | np.ndarray) -> Chunk:
    features = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    rows = len(features)
    times = np.zeros(rows, dtype="datetime64[us]")
    return Chunk(np.arange(rows).astype(np.str_), times, ("x",), features, np.zeros(rows))


def compared(reference: Sequence[float], window: Sequence[float]) -> ColumnCells:
    cells = ReferenceCells(one_column(reference))
    return cells.column(0, cells.summarise(one_column(window)))
