"""A reference and a window of one column, counted cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitorkit import Chunk
from monitorkit.cells import ColumnCells, ReferenceCells

Values = Sequence[float] | np.ndarray


def one_column(values: Values) -> Chunk:
    features = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    return Chunk.of_rows(("x",), features, np.zeros(len(features)))


def compared(reference: Values, window: Values) -> ColumnCells:
    cells = ReferenceCells(one_column(reference))
    return cells.column(0, cells.summarise(one_column(window)))
