"""Monitoring over a log of which a part is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest
from monitoring_place import Place, draw

from monitorkit.errors import ArchiveUnreachable
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.worker import Worker

Make = Callable[..., Place]
NAMES = ("feature-drift",)


def test_rows_elsewhere_count_like_those_here_and_once(place: Make) -> None:
    memory = fsspec.filesystem("memory")
    here = place(log={"archives": ["memory://rows/elsewhere"]})
    predictions = here.config.storage.predictions
    here.append(draw(300, seed=2))
    closed = "predictions-20260101T000000.000000Z.csv"
    (predictions / "predictions.csv").rename(predictions / closed)
    here.append(draw(50, seed=3))
    memory.pipe(f"/rows/elsewhere/{closed}", (predictions / closed).read_bytes())
    engine = LocalEngine(here.config)
    absorbed = engine.absorb(NAMES, datetime.now(UTC))
    assert (absorbed.window.rows, absorbed.rows_read) == (350, 350)
    (predictions / closed).unlink()
    here.append(draw(7, seed=4))
    absorbed = engine.absorb(NAMES, datetime.now(UTC))
    assert (absorbed.window.rows, absorbed.rows_read) == (357, 7)
    (here.config.storage.state / "timeline.sqlite").unlink()
    again = LocalEngine(here.config).absorb(NAMES, datetime.now(UTC))
    assert (again.window.rows, again.rows_read) == (357, 357)
    assert again.cursor == absorbed.cursor
    memory.rm("/rows", recursive=True)


def test_an_archive_that_cannot_be_read_fails_the_cycle_and_says_which(
    place: Make, worker: Worker, tmp_path: Path
) -> None:
    archive = tmp_path / "away"
    here = place(log={"archives": [str(archive)]})
    here.append(draw(300, seed=2))
    engine = ProcessEngine(here.config, worker)
    with pytest.raises(ArchiveUnreachable, match=r"\[log\] archives: .*away"):
        engine.absorb(NAMES, datetime.now(UTC))
    archive.mkdir()
    (archive / "README").touch()
    assert engine.absorb(NAMES, datetime.now(UTC)).window.rows == 300
