"""`monitor --once`, as a scheduler runs it: what was begun is done when it ends."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from monitoring_place import SCHEMA, Place, draw
from structlog.testing import capture_logs

from monitorkit.config import Config
from monitorkit.contracts import RunResult
from monitorkit.errors import ConfigError, ReferenceMissing
from monitorkit.monitoring import compressing, standalone
from monitorkit.monitoring.compressing import Compressing
from monitorkit.monitoring.cycle import Selection
from monitorkit.prediction_log import Prediction, Reader, Writer
from monitorkit.worker import Worker

Make = Callable[..., Place]


@pytest.fixture
async def here(place: Make, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A log with two closed segments. Writing one anew takes a slice, comparing it another one.

    A fifth of the interval is over after the first.
    """
    monkeypatch.setattr(compressing, "SLICE_SECONDS", 0.0)
    made = place(log={"compress": True}, monitoring={"interval": "10ms"})
    folder = made.config.storage.predictions
    writer = await Writer.open(folder, SCHEMA, durability="os", rotate_bytes=2 * 2**20)
    features = draw(5_000, seed=2)
    scores, start = made.model.scores(features), datetime.now(UTC) - timedelta(minutes=5)
    while len(list(folder.glob("predictions-*.csv"))) < 2:
        await writer.append(
            SCHEMA,
            [
                Prediction(
                    str(uuid.uuid4()),
                    f"{start + timedelta(milliseconds=n):%Y-%m-%dT%H:%M:%S.%fZ}",
                    "1",
                    int(score > 0.5),
                    float(score),
                    row.tolist(),
                )
                for n, (score, row) in enumerate(zip(scores, features, strict=True))
            ],
        )
    await writer.close()
    return made


def compressed(here: Place) -> int:
    """How many of the two segments are Parquet files; each of them is in one form."""
    folder = here.config.storage.predictions
    found = len(list(folder.glob("predictions-*.parquet")))
    assert found + len(list(folder.glob("predictions-*.csv"))) == 2
    return found


def rows(here: Place) -> int:
    reader = Reader(here.config.storage.predictions)
    return sum(len(block.chunk) for block in reader.read({}))


def test_once_in_a_wrong_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    config = Config(storage={"root": tmp_path})
    with pytest.raises(ReferenceMissing):
        standalone.run_once(config, Selection(), reports=False, where=standalone.Where())
    assert list(tmp_path.iterdir()) == []


def test_once_where_nothing_may_be_written_is_refused_with_the_path(place: Make) -> None:
    here = place()
    here.append(draw(300, seed=2))
    lock = here.config.storage.state / "cycle.lock"
    lock.mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        standalone.run_once(here.config, Selection(), reports=False, where=standalone.Where())
    assert "[storage] root" in str(caught.value)
    assert str(lock) in str(caught.value)


def test_once_ends_with_a_whole_segment_compressed_however_short_the_interval(
    here: Place,
) -> None:
    before = rows(here)
    for done in (1, 2):  # a process each: nothing that is under way outlives it
        where = standalone.Where()
        outcome = standalone.run_once(here.config, Selection(), reports=False, where=where)
        assert isinstance(outcome, RunResult)
        assert outcome.window.rows == before
        assert compressed(here) == done
    assert rows(here) == before


def test_beside_a_loop_it_takes_its_share_of_the_interval_and_goes_on_later(
    here: Place, worker: Worker
) -> None:
    before = rows(here)
    (*_, block) = Reader(here.config.storage.predictions).read({})
    beside = Compressing(here.config, worker)
    found: list[int] = []
    while not found or found[-1] < 2:
        beside.run(block.cursor)
        found.append(compressed(here))
        assert len(found) < 30
    assert found[:2] == [0, 0]
    assert 1 in found
    assert rows(here) == before


def test_results_that_cannot_be_read_do_not_end_the_loop(place: Make) -> None:
    sink = {"name": "files", "use": "bad_sink"}
    here = place(monitoring={"interval": "100ms"}, sinks=[sink])
    folder = here.results.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in its place")

    def stop() -> None:
        deadline = time.monotonic() + 30
        while len(events) < 4 and time.monotonic() < deadline:
            if ended.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGTERM)

    before, ended, stopping = signal.getsignal(signal.SIGTERM), Event(), Thread(target=stop)
    with capture_logs() as events:
        stopping.start()
        try:
            where = standalone.Where()
            standalone.run_forever(here.config, Selection(), reports=False, where=where)
        finally:
            ended.set()
            stopping.join()
            signal.signal(signal.SIGTERM, before)
    assert [event["event"] for event in events[:4]] == ["cycle_failed", "delivery_failed"] * 2
    assert events[-1]["event"] == "stopped"
    assert all("Not a directory" in event["reason"] for event in events[:-1])
