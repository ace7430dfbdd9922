"""What the alias points at is looked at once, also when it cannot be served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped] # comes with MLflow
import numpy as np
import pytest
from requests import ConnectTimeout
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from structlog.testing import capture_logs
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError

from monitorkit import model, registry
from monitorkit.config import Config
from monitorkit.errors import ModelRefused, MonitorkitError, SchemaError, WorkerDied, WorkerTimeout
from monitorkit.serving import candidate
from monitorkit.serving.reloader import Reloader
from monitorkit.serving.served import Served, Slot
from monitorkit.trust import Trust
from monitorkit.worker import AnswerStays, Worker


class Here:
    """A worker in this process."""

    def call(self, _task: str, _seconds: float, work: Callable[..., Any], *given: Any) -> Any:
        return work(*given)


@pytest.fixture
def fetched(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:  # versions that were asked for
    asked: list[str] = []

    def fetch(_address: Any, version: str, *_: Any) -> Path:
        asked.append(version)
        return tmp_path

    monkeypatch.setattr(registry, "production_version", lambda _: "2")
    monkeypatch.setattr(registry, "fetch", fetch)
    other = replace(served.model.card, version="2")
    monkeypatch.setattr("monitorkit.model.read_card", lambda _: other)
    monkeypatch.setattr("monitorkit.model.ready", lambda tried: tried)
    return asked


@pytest.mark.parametrize(
    "raised",
    [
        SchemaError("age", "[schema] names it, and the model does not read it", "Remove it."),
        ModelRefused("the model", "it has three classes", "Train another."),
        WorkerDied("reading a model version", "signal 9"),
        WorkerTimeout("reading a model version", 300),
    ],
    ids=lambda raised: type(raised).__name__,
)
async def test_a_version_that_cannot_be_served_is_told_of_and_not_looked_at_again(
    served: Served, fetched: list[str], monkeypatch: pytest.MonkeyPatch, raised: MonitorkitError
) -> None:
    def refuses(*_: Any) -> Any:
        raise raised

    monkeypatch.setattr(candidate, "try_out", refuses)
    slot = Slot(served)
    reloader = Reloader(Config(), Here(), slot)  # type: ignore[arg-type] # all that it asks of it
    with capture_logs() as events:
        for _ in range(3):
            await reloader._look_up_quietly()
    assert fetched == ["2"]
    assert slot.current is served
    assert [event["event"] for event in events] == ["model_refused"]
    assert str(raised).split(":")[-1][:20] in events[0]["reason"]


async def test_a_version_that_ends_the_worker_as_it_is_fetched_is_refused(
    served: Served, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(_address: Any, version: str, *_: Any) -> Path:
        fetched.append(version)
        raise WorkerDied("fetching model version 2", "signal 9")

    monkeypatch.setattr(registry, "fetch", fetch)
    reloader = Reloader(Config(), Here(), Slot(served))  # type: ignore[arg-type] # as above
    with capture_logs() as events:
        for _ in range(3):
            await reloader._look_up_quietly()
    assert fetched == ["2"]
    assert [event["event"] for event in events] == ["model_refused"]


async def test_one_trouble_is_one_event_whatever_objects_its_error_names(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 names its connection, and where that is in memory, when a server does not answer."""
    connections = []

    def times_out(address: Any) -> str:
        connection = HTTPConnection("127.0.0.1")
        connections.append(connection)  # so that the next one is elsewhere
        with registry.reported(address):
            late = ConnectTimeoutError(connection, "timed out")
            raise ConnectTimeout(MaxRetryError(HTTPConnectionPool("127.0.0.1"), "/", late))
        raise AssertionError

    monkeypatch.setattr(registry, "production_version", times_out)
    reloader = Reloader(Config(), Here(), Slot(served))  # type: ignore[arg-type] # as above
    with capture_logs() as events:
        for _ in range(3):
            await reloader._look_up_quietly()
    assert [event["event"] for event in events] == ["registry_trouble"]
    assert "HTTPConnection" in events[0]["reason"]
    assert "timed out" in events[0]["reason"]


async def test_a_version_that_does_not_pickle_is_read_here_and_served(
    served: Served, tmp_path: Path
) -> None:
    """As a cloudpickle with a function that nobody can import."""
    folder = tmp_path / "2"
    folder.mkdir()
    rows = np.random.default_rng(3).normal(size=(200, 4)) * 100
    pipeline = make_pipeline(FunctionTransformer(lambda table: table * 2), LogisticRegression())
    pipeline.fit(rows, rows[:, 0] > 0)
    (folder / model.MODEL_FILE).write_bytes(cloudpickle.dumps(pipeline))
    card = replace(served.model.card, version="2", sha256="", estimator="", form="pickle")
    trust = Trust((), pickles=True)
    model.admit(folder, card, trust)
    config = Config(storage={"root": tmp_path / "monitoring"}, registry={"allow_pickle": True})
    slot = Slot(served)
    worker = Worker("registry")
    try:
        with pytest.raises(AnswerStays):
            worker.call("reading", 60, candidate.try_out, folder, trust, config.storage.reference)
        await Reloader(config, worker, slot)._load(folder)
    finally:
        worker.close()
    assert slot.current is not None
    assert slot.current.model.card.version == "2"
    np.testing.assert_array_equal(
        slot.current.model.scores(rows), pipeline.predict_proba(rows)[:, 1]
    )


def test_what_reads_requests_is_kept_while_the_schema_stays(served: Served) -> None:
    again = Served.of(served.model, {}, served)
    same = Served.of(served.model, {}, again)
    assert again.request is not served.request, "other bounds"
    assert same.request is again.request
    assert (same._row, same._rows) == (again._row, again._rows)
    assert Served.of(served.model, {}).request is not again.request
