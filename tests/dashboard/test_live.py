"""Events: one poller for all, a word only when something changed, and an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitorkit.contracts import RunResult
from monitorkit.dashboard import live
from monitorkit.dashboard.pages import FRAGMENTS

Show = Callable[..., AbstractAsyncContextManager[Any]]


async def digests(events: AsyncIterator[bytes]) -> dict[str, str]:
    async with asyncio.timeout(10):
        async for event in events:
            if event.startswith(b"data: "):
                found: dict[str, str] = json.loads(event[6:])
                return found
    raise AssertionError("the events ended")


async def test_a_new_result_changes_its_parts_and_no_others(
    show: Show, history: list[RunResult]
) -> None:
    async with show(history[0]) as shown:
        events = shown.live.events()
        first = await digests(events)
        assert list(first) == list(FRAGMENTS)
        shown.results.commit(history[-1])
        second = await digests(events)
        parts = {name: await shown.live.fragment(name) for name in FRAGMENTS}
        await events.aclose()
    changed = {name for name in FRAGMENTS if first[name] != second[name]}
    assert changed == set(FRAGMENTS)
    assert {name: digest for name, (digest, _) in parts.items()} == second
    assert b"drifted" in parts["features"][1]


async def test_the_state_of_the_service_changes_the_glance_alone(
    show: Show, history: list[RunResult]
) -> None:
    async with show(history[0]) as shown:
        events = shown.live.events()
        first = await digests(events)
        shown.health["predictions_logged"] += 1
        second = await digests(events)
        await events.aclose()
    changed = {name for name in FRAGMENTS if first[name] != second[name]}
    # What is free on the disk is everybody's, and may have changed meanwhile.
    assert changed - {"service"} == {"glance"}


async def test_nothing_new_is_no_event_but_a_sign_of_life(
    show: Show, history: list[RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.3)
    # The page tells the free space, and other tests write to the same disk meanwhile.
    monkeypatch.setattr(live, "free_and_total", lambda _: (10**9, 10**10))
    async with show(history[0]) as shown:
        events = shown.live.events()
        await digests(events)
        async with asyncio.timeout(10):
            quiet = [await anext(events) for _ in range(3)]
        await events.aclose()
    assert quiet == [b": still here\n\n"] * 3


async def test_every_stream_ends_when_the_service_stops(show: Show) -> None:
    async with show() as shown:
        streams = [shown.live.events() for _ in range(5)]
        for stream in streams:
            await digests(stream)
        waiting = [asyncio.ensure_future(anext(stream, None)) for stream in streams]
        await asyncio.sleep(0.05)
        shown.live.stop()
        async with asyncio.timeout(2):
            assert await asyncio.gather(*waiting) == [None] * 5


async def test_a_head_of_the_events_has_an_end(show: Show) -> None:
    async with show() as shown, asyncio.timeout(5):
        answer = await shown.client.head("/dashboard/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b""


async def test_so_many_connections_and_no_more(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 3)
    async with show() as shown:
        streams = [shown.live.events() for _ in range(3)]
        for stream in streams:
            await digests(stream)
        refused = await shown.client.get("/dashboard/events")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "30"
        assert refused.json()["type"].endswith(":too-many-listeners")
        await streams[0].aclose()
        assert not shown.live.full
        for stream in streams[1:]:
            await stream.aclose()


async def test_a_folder_that_cannot_be_read_is_an_event_once_and_no_end(
    show: Show, history: list[RunResult]
) -> None:
    async with show(history[0]) as shown:
        events = shown.live.events()
        first = await digests(events)
        folder = shown.results.folder
        folder.rename(folder.with_name("elsewhere"))
        folder.write_text("a file in its place")
        with capture_logs() as logged:
            shown.health["predictions_logged"] += 1
            second = await digests(events)
            await asyncio.sleep(2.6)
        # What the service says of itself goes on; only what was found stays as it was.
        assert {name for name in FRAGMENTS if first[name] != second[name]} - {"service"} == {
            "glance"
        }
        assert [(entry["event"], entry["log_level"]) for entry in logged] == [
            ("dashboard_failed", "error")
        ]
        folder.unlink()
        folder.with_name("elsewhere").rename(folder)
        shown.results.commit(history[-1])
        assert await digests(events) != first
        await events.aclose()
