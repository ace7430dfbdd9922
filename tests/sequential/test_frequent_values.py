"""Frequent values of a column that left their limits together, each of them a little."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp

from monitorkit import Chunk
from monitorkit.cells import ReferenceCells
from monitorkit.sequential.clusters import Clusters
from monitorkit.sequential.events import MEASURES, Events, Limits
from monitorkit.sequential.evidence import log_evidence_above, log_evidence_below
from monitorkit.sequential.subsets import frequent_of
from monitorkit.sequential.weighing import Weigher

ROUND = np.arange(1000.0, 8000.0, 1000.0)
NONE = np.zeros(1)
ONE_BY_ONE = Clusters(np.ones(1), NONE, NONE)


def incomes(random: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """A seventh of them round, seven different ones; the others are of 7,000 different values."""
    smooth = random.integers(1001, 8000, rows).astype(np.float64)
    return np.where(random.random(rows) < 0.14, random.choice(ROUND, rows), smooth)


def chunk(values: NDArray[np.float64]) -> Chunk:
    return Chunk.of_rows(("income",), values[:, np.newaxis], np.full(len(values), 0.5))


REFERENCE = ReferenceCells(chunk(incomes(np.random.default_rng(1), 6000)))
WEIGHER = Weigher(REFERENCE, (0,), Limits(), 1 / (365 * 86400))
EVENTS = WEIGHER.events


def tally(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return EVENTS.tally(REFERENCE.summarise(chunk(values)))


def test_they_are_those_of_a_column_of_many_values_up_to_a_number() -> None:
    names = [EVENTS.names[at] for at in WEIGHER.frequent[0].values.tolist()]
    many = np.random.default_rng(0).permutation(np.repeat(np.arange(40.0), 50))
    of_many, of_few = (
        frequent_of(Events(ReferenceCells(chunk(values)), (0,), Limits()))
        for values in (many, many % 10)
    )

    assert names == [f"value {value:g}" for value in ROUND]
    assert not of_many
    assert not of_few


@pytest.mark.parametrize("seed", range(20))
def test_their_evidence_is_at_most_the_mean_over_all_subsets(seed: int) -> None:
    """Which is a supermartingale as long as each share is near enough."""
    random = np.random.default_rng(seed)
    frequent = WEIGHER.frequent[0]
    trials = np.full((1, len(EVENTS.names)), 600.0)
    successes = np.zeros_like(trials)
    successes[:, frequent.values] = random.integers(0, 40, len(frequent.values))
    s, n = successes[:, frequent.values], trials[:, 0]

    subsets = np.array(list(product([False, True], repeat=s.shape[1])))
    of_all = np.concatenate(
        [
            log_evidence_above(s @ subsets.T, n, subsets @ frequent.highest),
            log_evidence_below(s @ subsets.T, n, subsets @ frequent.lowest),
        ]
    )
    found = frequent.log_evidence(successes, trials, ONE_BY_ONE)[0]

    assert np.isfinite(found)
    assert found <= logsumexp(of_all) - np.log(of_all.size) + 1e-9


def test_that_round_values_are_gone_is_found_sooner_than_of_any_one_of_them() -> None:
    """Multiplied by 0.97: no quantile moves by more than the tolerance."""
    after = incomes(np.random.default_rng(2), 400)
    counted = tally(np.where(np.isin(after, ROUND), after * 0.97, after))[np.newaxis]
    successes, trials = (part.astype(np.float64) for part in EVENTS.count(counted))
    shares = EVENTS.measure == MEASURES.index("shares")
    alone = log_evidence_below(successes[0], trials[0], EVENTS.lowest)[shares].max()

    together = WEIGHER.frequent[0].log_evidence(successes, trials, ONE_BY_ONE)[0]
    evidence = WEIGHER._evidence(successes, trials, counted, ONE_BY_ONE)[0]
    of_measure = {measure: evidence[group] for (_, measure), group in WEIGHER.place.items()}

    needed = WEIGHER.needed(np.array([3600.0]))[0, WEIGHER.place[0, "shares"]]
    assert alone < needed < of_measure["shares"]
    assert of_measure["shares"] == pytest.approx(together - np.log(2), abs=0.01)
    assert of_measure["distance"] < needed


def test_as_many_as_before_are_no_evidence() -> None:
    counted = tally(incomes(np.random.default_rng(3), 6000))[np.newaxis]
    successes, trials = (part.astype(np.float64) for part in EVENTS.count(counted))

    found = WEIGHER.frequent[0].log_evidence(successes, trials, ONE_BY_ONE)

    assert found.tolist() == [-np.inf]


def test_no_rows_are_no_evidence() -> None:
    none = np.zeros((1, len(EVENTS.names)))

    assert WEIGHER.frequent[0].log_evidence(none, none, ONE_BY_ONE).tolist() == [-np.inf]
