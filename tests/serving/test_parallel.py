"""Many rows are scored in shares, and nobody can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest

from monitorkit.engines import Engine, Features, Scores, Timed
from monitorkit.model import Model
from monitorkit.serving.parallel import SHARE_MILLISECONDS, Parallel
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services

ROWS = np.column_stack(
    [np.arange(18, 68), np.arange(50) % 5, np.linspace(0, 3, 50), np.linspace(0, 9_000, 50)]
).astype(np.float64)


@pytest.fixture
def parallel() -> Iterator[Parallel]:
    made = Parallel(threads=3)
    yield made
    made.close()


class Watched:
    """An engine that does a model's work and notes who asked for how many rows."""

    def __init__(self, model: Model, milliseconds_of_a_row: float) -> None:
        self.calls: list[tuple[int, int]] = []
        self._model = model
        timed = Timed(Engine("watched", self.scores), 0.0, milliseconds_of_a_row)
        scorer = replace(model.scorer, few=timed, bulk=timed)
        self.model = replace(model, scorer=scorer)

    def scores(self, rows: Features) -> Scores:
        self.calls.append((threading.get_ident(), len(rows)))
        time.sleep(0.02)  # so that no thread is done before the next one is asked
        return self._model.scorer.scores(rows)


def test_what_takes_long_is_shared_out_and_comes_back_in_order(
    served: Served, parallel: Parallel
) -> None:
    watched = Watched(served.model, SHARE_MILLISECONDS)
    found = parallel.scores(watched.model, ROWS)
    np.testing.assert_allclose(found, served.model.scores(ROWS), rtol=0, atol=1e-15)
    assert sorted(count for _, count in watched.calls) == [16, 17, 17]
    threads = {thread for thread, _ in watched.calls}
    assert len(threads) == 3
    assert threading.get_ident() in threads


def test_nobody_waits_for_shares_of_somebody_elses_rows(served: Served) -> None:
    """Of single rows that take long beside a batch that takes longer: they share the threads."""
    parallel = Parallel(threads=2)
    begun, go_on = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        go_on.wait(10)

    other = parallel._pool.submit(hangs)
    try:
        assert begun.wait(10)
        watched = Watched(served.model, SHARE_MILLISECONDS)
        found = parallel.scores(watched.model, ROWS)
        assert not other.done()
    finally:
        go_on.set()
        parallel.close()
    np.testing.assert_allclose(found, served.model.scores(ROWS), rtol=0, atol=1e-15)
    assert watched.calls == [(threading.get_ident(), 25)] * 2


@pytest.mark.parametrize(
    ("shares_of_time", "threads", "calls"),
    [(1.9, 3, 1), (2.1, 3, 2), (100, 1, 1)],
    ids=["too cheap for two", "enough for two", "one processor"],
)
def test_a_share_is_worth_its_hand_off(
    served: Served, shares_of_time: float, threads: int, calls: int
) -> None:
    parallel = Parallel(threads)
    watched = Watched(served.model, SHARE_MILLISECONDS * shares_of_time / (len(ROWS) - 1))
    parallel.scores(watched.model, ROWS)
    parallel.close()
    assert len(watched.calls) == calls


@pytest.mark.parametrize("wrong", [ROWS[0, 0], ROWS[-1, 0]], ids=["own share", "another's"])
def test_what_one_share_raises_is_raised_when_all_have_ended(
    served: Served, parallel: Parallel, wrong: float
) -> None:
    ended = []

    def raises(rows: Features) -> Scores:
        if wrong in rows[:, 0]:
            raise ValueError("no such applicant")
        time.sleep(0.05)
        ended.append(len(rows))
        return rows[:, 0]

    timed = Timed(Engine("raises", raises), 0.0, SHARE_MILLISECONDS)
    scorer = replace(served.model.scorer, few=timed, bulk=timed)
    with pytest.raises(ValueError, match="no such applicant"):
        parallel.scores(replace(served.model, scorer=scorer), ROWS)
    assert len(ended) == 2


async def test_a_batch_in_shares_is_answered_row_by_row(
    services: Services,
    client: httpx.AsyncClient,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services.pipeline, "_parallel", Parallel(threads=3))
    watched = Watched(served.model, SHARE_MILLISECONDS)
    services.slot.current = replace(served, model=watched.model)
    rows = [dict(zip(served.schema.names, row, strict=True)) for row in ROWS.tolist()]
    response = await client.post("/predict/batch", json=rows)
    assert response.status_code == 200
    answers = [each["probability"] for each in response.json()["predictions"]]
    np.testing.assert_allclose(answers, served.model.scores(ROWS), rtol=0, atol=1e-15)
    assert len(watched.calls) == 3
