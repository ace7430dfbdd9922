"""Results reach every sink in order, whatever a sink does, and none is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from monitoring_place import Place, draw
from structlog.testing import capture_logs

from monitorkit.delivered import Delivered, read, write
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.delivery import Delivery
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.worker import Worker

Make = Callable[..., Place]


def sink(name: str, how: str = "ok") -> dict[str, Any]:
    # A worker's first task imports pandas: on a busy machine that alone takes seconds.
    timeout = "6s" if how == "hang" else "30s"
    return {"name": name, "use": "bad_sink", "timeout": timeout, "options": {"how": how}}


def judged(here: Place, count: int) -> list[str]:
    engine = LocalEngine(here.config)
    here.append(draw(250, seed=2))
    for _ in range(count):
        run_cycle(here.config, engine, here.results, trigger="once")
    return list(here.results.run_ids())


def delivered(folder: Path) -> list[str]:
    path = folder / "delivered.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_every_result_is_delivered_once_in_order(place: Make, worker: Worker) -> None:
    here = place(sinks=[sink("files")])
    delivery = Delivery(here.config, worker, here.results)
    first = judged(here, 2)
    assert delivery.undelivered() == {"files": 2}
    delivery.deliver()
    assert delivered(here.folder) == first
    both = judged(here, 1)
    delivery.deliver()
    delivery.deliver()
    assert delivered(here.folder) == both
    assert delivery.undelivered() == {"files": 0}


def test_a_result_that_is_a_folder_holds_the_others_up_until_it_is_gone(
    place: Make, worker: Worker
) -> None:
    here = place(sinks=[sink("files")])
    delivery = Delivery(here.config, worker, here.results)
    run_ids = judged(here, 3)
    second = here.results.folder / f"{run_ids[1]}.json"
    aside = second.rename(here.folder / "aside")
    second.mkdir()
    delivery.deliver()
    assert delivered(here.folder) == run_ids[:1]
    second.rmdir()
    aside.rename(second)
    delivery.deliver()
    assert delivered(here.folder) == run_ids


@pytest.mark.parametrize("how", ["raise", "hang", "exit"])
def test_a_sink_that_fails_is_tried_again_and_harms_no_other(
    place: Make, worker: Worker, how: str
) -> None:
    here = place(sinks=[sink("broken", how), sink("files")])
    delivery = Delivery(here.config, worker, here.results)
    run_ids = judged(here, 2)
    delivery.deliver()
    # The broken one noted the first before it failed, and waits with the second.
    assert delivered(here.folder) == [run_ids[0], *run_ids]
    assert delivery.undelivered() == {"broken": 2, "files": 0}
    (here.folder / "healed").touch()
    delivery.deliver()
    assert delivered(here.folder)[3:] == run_ids
    assert delivery.undelivered() == {"broken": 0, "files": 0}


def test_where_a_sink_keeps_a_result_is_remembered(place: Make, worker: Worker) -> None:
    here = place(sinks=[sink("linked", "link"), sink("files")])
    delivery = Delivery(here.config, worker, here.results)
    run_ids = judged(here, 2)
    delivery.deliver()
    known = read(here.config.storage.state)
    assert [known.link("linked", run_id) for run_id in run_ids] == [
        f"https://sink.example/{run_id}" for run_id in run_ids
    ]
    assert known.link("files", run_ids[0]) is None


def test_one_process_delivers_at_a_time(place: Make, worker: Worker) -> None:
    here = place(sinks=[sink("files")])
    judged(here, 1)
    delivery = Delivery(here.config, worker, here.results)
    with FileLock(here.config.storage.state / "delivery.lock"):
        delivery.deliver()
    assert delivered(here.folder) == []
    delivery.deliver()
    assert len(delivered(here.folder)) == 1


DAMAGED = ["{damaged", "[]", '{"schema_version": 1, "sinks": null}', '{"sinks": {}}', "[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_without_its_positions_everything_is_delivered_again(
    place: Make, worker: Worker, content: str
) -> None:
    here = place(sinks=[sink("files")])
    run_ids = judged(here, 2)
    delivery = Delivery(here.config, worker, here.results)
    delivery.deliver()
    (here.config.storage.state / "delivery.json").write_text(content)
    delivery.deliver()
    assert delivered(here.folder) == run_ids * 2


AHEAD = "20361125T101112131415Z-0a1b2c3d"


def begun_anew(events: Any) -> list[tuple[str, str]]:
    warnings = [event for event in events if event["log_level"] == "warning"]
    assert {event["event"] for event in warnings} <= {"delivery_begins_anew"}
    return [(event["sink"], event["position"]) for event in warnings]


def test_after_a_result_of_the_future_was_deleted_everything_is_delivered_again(
    place: Make, worker: Worker
) -> None:
    here = place(sinks=[sink("linked", "link")])
    delivery = Delivery(here.config, worker, here.results)
    (first,) = judged(here, 1)
    whole = here.results.latest()
    assert whole is not None
    here.results.commit(replace(whole, run_id=AHEAD))
    delivery.deliver()
    (here.results.folder / f"{AHEAD}.json").unlink()
    both = judged(here, 1)
    with capture_logs() as events:
        delivery.deliver()
        delivery.deliver()
    assert begun_anew(events) == [("linked", AHEAD)]
    assert delivered(here.folder) == [first, AHEAD, *both]
    assert delivery.undelivered() == {"linked": 0}
    links = read(here.config.storage.state).links["linked"]
    assert [run_id for run_id, _ in links] == both


def test_that_is_told_once_though_the_sink_takes_nothing(place: Make, worker: Worker) -> None:
    here = place(sinks=[sink("broken", "raise"), sink("files")])
    delivery = Delivery(here.config, worker, here.results)
    run_ids = judged(here, 2)
    write(here.config.storage.state, Delivered({"broken": AHEAD, "files": run_ids[0]}))
    with capture_logs() as events:
        for _ in range(2):
            delivery.deliver()
            assert delivery.undelivered() == {"broken": 2, "files": 0}
    warnings = [event for event in events if event["event"] != "sink_failed"]
    assert begun_anew(warnings) == [("broken", AHEAD)]
    assert delivered(here.folder).count(run_ids[0]) == 2  # the other sink did not get it again


@pytest.mark.parametrize("how", ["damaged", "the only one left", "none left"])
def test_a_position_that_is_right_stays(place: Make, worker: Worker, how: str) -> None:
    here = place(sinks=[sink("files")])
    delivery = Delivery(here.config, worker, here.results)
    run_ids = judged(here, 3)
    delivery.deliver()
    paths = [here.results.folder / f"{run_id}.json" for run_id in run_ids]
    if how == "damaged":  # it is no run id any more, and the position is later than all that are
        paths[-1].write_bytes(b"")
        here.results.latest()
        assert list(here.results.run_ids()) == run_ids[:-1]
    for path in {"damaged": [], "the only one left": paths[:-1], "none left": paths}[how]:
        path.unlink()
    with capture_logs() as events:
        delivery.deliver()
    assert begun_anew(events) == []
    assert delivered(here.folder) == run_ids
    assert delivery.undelivered() == {"files": 0}
