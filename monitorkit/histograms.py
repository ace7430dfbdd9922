"""Small histograms of a window beside the reference, such as fit into a finding's detail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from monitorkit.cells import ColumnCells

MOST_BINS = 20

_MOST_DRAWN = 64

_LONG_TAIL = 10.0
"""Ranges of so many interquartile ranges are cut evenly in asinh: else one bin has nearly all."""


def histogram(column: ColumnCells) -> dict[str, Any] | None:
    """Rows of the reference and of the window in at most 20 bins; None without values to cut.

    A bin is (edge, next edge], the outer ones are open. Edges are values of the reference, so the
    counts are exact. Up to 19 different values have a bin each, which holds the gap below it, too.
    More are cut into equal widths between the reference's 1 % and 99 % quantiles, where its tail is
    long into equal widths of asinh((value - median) / half the interquartile range).

    Args:
        column: of the reference and the window.

    Returns:
        `edges` (n numbers, to six digits), `reference` and `window` (n + 1 counts), and `values`:
        whether each edge is one of the few values.
    """
    known = column.known
    if not known.size or not column.reference_rows:
        return None
    few = known.size < MOST_BINS
    at = np.arange(known.size) if few else _cuts(column)
    return {
        "edges": [float(f"{edge:.6g}") for edge in known[at].tolist()],
        "reference": _counted(column.reference, at),
        "window": _counted(column.window, at),
        "values": few,
    }


def is_histogram(found: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether something is what `histogram` returns: monitors of others may keep anything."""
    if not isinstance(found, Mapping):
        return False
    edges, reference, window = (found.get(name) for name in ("edges", "reference", "window"))
    if not (are_numbers(edges) and are_numbers(reference) and are_numbers(window)):
        return False
    return len(reference) == len(window) == len(edges) + 1 and 0 < len(edges) < _MOST_DRAWN


def are_numbers(values: object) -> TypeGuard[Sequence[Any]]:
    """Whether something is a list of finite numbers."""
    return isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )


def _counted(cells: NDArray[np.int64], at: NDArray[np.int64]) -> list[int]:
    """Rows up to each edge, from edge to edge, and beyond the last one."""
    up_to = np.cumsum(cells)
    counts: list[int] = np.diff(up_to[2 * at + 1], prepend=0, append=up_to[-1]).tolist()
    return counts


def _cuts(column: ColumnCells) -> NDArray[np.int64]:
    """Positions of the edges among the known values."""
    known = column.known
    up_to = np.cumsum(column.reference)[1::2]
    ranks = np.array([0.01, 0.25, 0.5, 0.75, 0.99]) * column.reference_rows
    low, left, middle, right, high = known[
        np.minimum(np.searchsorted(up_to, ranks), known.size - 1)
    ]
    with np.errstate(over="ignore", invalid="ignore"):  # values near the largest float
        unit = (right - left) / 2
        if not unit > 0:
            unit = np.median(np.abs(known - middle))
        if high / 2 - low / 2 > _LONG_TAIL * unit:
            first, last = np.arcsinh([(low - middle) / unit, (high - middle) / unit])
            edges = middle + unit * np.sinh(np.linspace(first, last, MOST_BINS - 1))
        else:
            width = (high - low) / (MOST_BINS - 2)
            if np.array_equal(known, np.rint(known)):
                width = np.ceil(width)  # as many whole numbers in each bin
            edges = low + width * np.arange(MOST_BINS - 1)
    return np.unique(np.clip(np.searchsorted(known, edges, side="right") - 1, 0, None))
