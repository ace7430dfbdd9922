"""Streams of rows for `benchmarks.alarms`: quiet ones, bursts, a daily rhythm, and changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer

from monitorkit.cells import SCORE_DECIMALS, ReferenceCells
from monitorkit.contracts import Bucket, Chunk
from monitorkit.sequential.events import Limits
from monitorkit.sequential.rule import Rule
from monitorkit.sequential.table import Table
from monitorkit.training.synthetic import TARGET, applicants
from monitorkit.units import parse_rate

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CYCLE = timedelta(minutes=5)
DAY = 288
"""Cycles in a day, and in a look-back."""

REFERENCE_ROWS = 6000
BUDGET = "1 in 3000 days"
"""1 % of streams of 30 days."""

MOST_REPEATS = 20
BUSY = 10, 21
"""From so many repeats on to less than so many."""

RHYTHM = 0.04
"""How far the share of the younger half of the population swings, up and down, in a day."""

REAL_ROWS = "give_me_some_credit_12k.csv"

Rows = NDArray[np.float64]
Change = Callable[[Rows, dict[str, int], np.random.Generator], None]


def _set(name: str, value: float) -> Change:
    def change(rows: Rows, at: dict[str, int], _: np.random.Generator) -> None:
        rows[:, at[name]] = value

    return change


def _times(name: str, factor: float, share: float = 1.0) -> Change:
    def change(rows: Rows, at: dict[str, int], random: np.random.Generator) -> None:
        rows[random.random(len(rows)) < share, at[name]] *= factor

    return change


def _plus(name: str, shift: float) -> Change:
    def change(rows: Rows, at: dict[str, int], _: np.random.Generator) -> None:
        rows[:, at[name]] += shift

    return change


def _missing(name: str, share: float) -> Change:
    def change(rows: Rows, at: dict[str, int], random: np.random.Generator) -> None:
        rows[random.random(len(rows)) < share, at[name]] = np.nan

    return change


UTILISATION, INCOME = "RevolvingUtilizationOfUnsecuredLines", "MonthlyIncome"
CHANGES: Mapping[str, tuple[str, Change]] = {
    "utilisation = 1.0": (UTILISATION, _set(UTILISATION, 1.0)),
    "utilisation x3": (UTILISATION, _times(UTILISATION, 3)),
    "income x0.8": (INCOME, _times(INCOME, 0.8)),
    "dependents +1": ("NumberOfDependents", _plus("NumberOfDependents", 1)),
    "income / 12 in 20 %": (INCOME, _times(INCOME, 1 / 12, 0.2)),
    "age -5": ("age", _plus("age", -5)),
    "90 days late = 0": ("NumberOfTimes90DaysLate", _set("NumberOfTimes90DaysLate", 0)),
    "10 % missing income": (INCOME, _missing(INCOME, 0.1)),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A population to draw from, and a reference from the same source.

    Attributes:
        name: of the data.
        columns: feature names; the score is one more.
        reference: (rows, columns) features. `population`: those that streams are drawn from.
    """

    name: str
    columns: tuple[str, ...]
    reference: Rows
    population: Rows
    model: Pipeline

    def chunk(self, rows: Rows) -> Chunk:
        """Scored."""
        return Chunk.of_rows(self.columns, rows, self.model.predict_proba(rows)[:, 1])

    def changed(self, change: Change, seed: int) -> Rows:
        """The population after a change."""
        rows = self.population.copy()
        at = {name: index for index, name in enumerate(self.columns)}
        change(rows, at, np.random.default_rng(seed))
        return rows


def synthetic(split: int = 0) -> Source:
    """The synthetic data set that comes with monitorkit, split in one of many ways."""
    columns, labels = applicants(24_000, 42)
    rows = np.stack(list(columns.values()), axis=1)
    return _source("synthetic", tuple(columns), rows, labels, split, train=6000)


def real(split: int = 0) -> Source | None:
    """Rows of *Give Me Some Credit*, split in one of many ways; None: they are not here.

    The model is trained on the reference: a smooth one, which scores other rows alike.
    """
    here = os.environ.get("CREDIT_DATA_FOLDER")
    folder = Path(here) if here else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / REAL_ROWS).is_file():
        return None
    table = pd.read_csv(folder / REAL_ROWS, index_col=0)
    labels = table.pop(TARGET).to_numpy(np.int64)
    values = table.to_numpy(np.float64)
    return _source("real", tuple(table.columns), values, labels, split, train=0)


def _source(
    name: str,
    columns: tuple[str, ...],
    rows: Rows,
    labels: NDArray[np.int64],
    split: int,
    *,
    train: int,
) -> Source:
    order = np.random.default_rng(7 + split).permutation(len(rows))
    rows, labels = rows[order], labels[order]
    learnt = slice(0, train or REFERENCE_ROWS)
    model = make_pipeline(
        SimpleImputer(strategy="median"),
        QuantileTransformer(n_quantiles=100, output_distribution="normal", random_state=0),
        LogisticRegression(max_iter=1000),
    ).fit(rows[learnt], labels[learnt])
    reference = rows[train : train + REFERENCE_ROWS]
    return Source(name, columns, reference, rows[train + REFERENCE_ROWS :], model)


class Tallies:
    """What the rule counts of each row of a population, so that a stream is a sum of them.

    Attributes:
        by_age: the rows of the population, the youngest first.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.by_age = np.argsort(source.population[:, source.columns.index("age")], kind="stable")
        self.cells = ReferenceCells(source.chunk(source.reference))
        self.weigher = self.new_rule().weigher
        self.rows = self.of(source.population)
        self._cells_of_repeats = self._cells(source.population)

    def new_rule(self) -> Rule:
        """One that has looked at nothing yet."""
        columns = range(len(self.cells.names))
        return Rule(self.cells, columns, Limits(), parse_rate(BUDGET), 0.99)

    def cells_of(
        self, rows: NDArray[np.int64], rate: int, population: Rows | None = None
    ) -> NDArray[np.int64]:
        """(columns, cycles, rate) cells of so numbered rows, of the columns that show repeats."""
        known = self._cells_of_repeats if population is None else self._cells(population)
        return known[:, rows].reshape(len(known), -1, rate)

    def _cells(self, population: Rows) -> NDArray[np.int64]:
        placed = self._placed(population)
        columns = self.weigher.repeats.columns
        return np.stack([placed[:, each.column] - each.first for each in columns])

    def _placed(self, population: Rows) -> NDArray[np.int64]:
        """(rows, columns) cells, of all columns laid end to end; -1 where a value is missing."""
        chunk = self.source.chunk(population)
        found = [
            np.where(
                np.isnan(values),
                -1,
                first + 2 * np.searchsorted(known, values) + np.isin(values, known),
            )
            for values, known, first in zip(
                [*chunk.features.T, np.round(chunk.scores, SCORE_DECIMALS)],
                self.cells.known,
                self.cells.starts[:-1].tolist(),
                strict=True,
            )
        ]
        return np.stack(found, axis=1)

    def of(self, rows: Rows) -> NDArray[np.uint8]:
        """(rows, ...) a tally for each row."""
        cell = self._placed(rows)
        there = cell >= 0
        table = Table(
            rows=np.ones(len(rows), np.int64),
            missing=(~there).astype(np.int64),
            starts=np.cumsum([0, *np.count_nonzero(there, axis=1)]),
            cell=cell[there],
            count=np.ones(np.count_nonzero(there), np.int64),
        )
        return self.weigher.events.tallies(table).astype(np.uint8)


def quiet(size: int, rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Which rows of a population a stream is made of: independent ones."""
    return random.integers(0, size, rows)


def bursts(size: int, rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Each client's row comes one to twenty times in a row."""
    repeats = random.integers(1, MOST_REPEATS + 1, rows)
    return np.repeat(random.integers(0, size, rows), repeats)[:rows]


def busy_client(size: int, rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Independent rows, but for one client in each hour whose row comes ten to twenty times."""
    drawn = quiet(size, rows, random)
    an_hour = rows // (30 * 24)
    for first in range(0, rows - an_hour + 1, an_hour):
        at = first + int(random.integers(0, an_hour))
        drawn[at : at + int(random.integers(*BUSY))] = drawn[at]
    return drawn


def rhythm(size: int, rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """One half of the population comes more often by day, the other one by night.

    Which half a row is in is its position: the population has to be ordered by something.
    """
    time = np.arange(rows) / rows * 30
    first = random.random(rows) < 0.5 + RHYTHM * np.sin(2 * np.pi * time)
    half = random.integers(0, size // 2, rows)
    return np.where(first, half, size // 2 + half)


def by_cycle(tallies: NDArray[np.uint8], rows: NDArray[np.int64], rate: int) -> NDArray[np.int64]:
    """(cycles, ...) tallies of a stream with so many rows in each cycle.

    From one entry to the next a row's tally changes in a few places only.
    """
    steps = csr_array(np.diff(tallies.astype(np.int32), axis=1, prepend=0))
    ends = np.arange(0, len(rows) + 1, rate)
    drawn = csr_array((np.ones(len(rows), np.int32), rows, ends), (len(rows) // rate, len(tallies)))
    return np.cumsum((drawn @ steps).toarray(), axis=1, dtype=np.int64)


def buckets(first: int, end: int, rate: int) -> list[Bucket[None]]:
    """One for each cycle."""
    return [Bucket(BEGIN + at * CYCLE, rate, None, CYCLE) for at in range(first, end)]
