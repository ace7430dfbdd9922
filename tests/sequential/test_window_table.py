"""monitorkit/sequential/table.py: the cells of many buckets, counted at once."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from monitorkit.cells import ReferenceCells
from monitorkit.contracts import Chunk
from monitorkit.sequential import table
from monitorkit.sequential.table import Table


def rows_of(random: np.random.Generator, count: int) -> Chunk:
    few, many = random.integers(0, 9, count), random.normal(size=count)
    features = np.stack((few.astype(np.float64), many), axis=1)
    features[random.random(count) < 0.2, 1] = np.nan
    return Chunk.of_rows(("few", "many"), features, random.random(count))


RANDOM = np.random.default_rng(4)
CELLS = ReferenceCells(rows_of(RANDOM, 300))
PARTS = [CELLS.summarise(rows_of(RANDOM, rows)) for rows in (0, 3, 40, 0, 5)]
PARTS.append(reduce(CELLS.merge, [CELLS.summarise(rows_of(RANDOM, 500)) for _ in range(3)]))
TABLE = Table.of(PARTS)


def test_it_has_what_each_bucket_has() -> None:
    assert [part.dense for part in PARTS] == [False] * 5 + [True]
    assert TABLE.rows.tolist() == [0, 3, 40, 0, 5, 1500]
    assert TABLE.missing.tolist() == [part.missing.tolist() for part in PARTS]
    for at, part in enumerate(PARTS):
        whole = np.zeros(CELLS.starts[-1], np.int64)
        entries = slice(*TABLE.starts[at : at + 2].tolist())
        whole[TABLE.cell[entries]] = TABLE.count[entries]
        assert set(TABLE.bucket(np.arange(TABLE.cell.size)[entries]).tolist()) <= {at}
        columns = [CELLS.column(index, part).window for index in range(len(CELLS.names))]
        assert whole.tolist() == np.concatenate(columns).tolist()


def test_rows_before_edges_are_sums_of_cells() -> None:
    gaps = np.concatenate([np.arange(2 * known.size + 1) % 2 == 0 for known in CELLS.known])
    edges = np.array([0, 1, 7, int(CELLS.starts[1]), int(CELLS.starts[1]) + 90, gaps.size])
    found = TABLE.before(edges, TABLE.count, TABLE.count * gaps[TABLE.cell])
    for at, part in enumerate(PARTS):
        columns = [CELLS.column(index, part).window for index in range(len(CELLS.names))]
        whole = np.concatenate(columns)
        assert found[0][at].tolist() == [int(whole[:edge].sum()) for edge in edges.tolist()]
        between = whole * gaps
        assert found[1][at].tolist() == [int(between[:edge].sum()) for edge in edges.tolist()]


@pytest.mark.parametrize("most", [1, 30, 100, 10_000])
def test_runs_are_the_whole_in_parts_of_limited_size(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MOST_CELLS", most)
    runs = list(Table.runs(PARTS))
    assert [rows for run in runs for rows in run.rows.tolist()] == TABLE.rows.tolist()
    for part in ("missing", "cell", "count"):
        together = np.concatenate([getattr(run, part) for run in runs])
        assert together.tolist() == getattr(TABLE, part).tolist()
    sizes = np.concatenate([np.diff(run.starts) for run in runs])
    assert sizes.tolist() == np.diff(TABLE.starts).tolist()
    assert all(run.cell.size <= most for run in runs if run.rows.size > 1)
    assert (len(runs) == 1) == (most == 10_000)
    assert list(Table.runs([])) == []
