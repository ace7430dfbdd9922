"""Whoever asks a disk that hangs waits for a while, and one thread waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitorkit.serving import disk as disk_module
from monitorkit.serving.disk import Disk
from monitorkit.serving.patient import Patient
from monitorkit.settings import Storage


class Hanging:
    """A function that ends when it may."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.calls = 0
        self.may_end = threading.Event()
        self._then = then

    def __call__(self) -> None:
        self.calls += 1
        assert self.may_end.wait(20)
        self._then()


async def test_what_ends_in_time_is_waited_for_and_made_anew_each_time() -> None:
    hanging = Hanging()
    hanging.may_end.set()
    patient = Patient(hanging, 10)
    assert [await patient.call() for _ in range(3)] == [True] * 3
    assert hanging.calls == 3


async def test_while_a_call_hangs_nobody_begins_another() -> None:
    hanging, threads = Hanging(), threading.active_count()
    patient = Patient(hanging, 0.05)
    assert [await patient.call() for _ in range(4)] == [False] * 4
    assert await asyncio.gather(*(patient.call() for _ in range(4))) == [False] * 4
    assert hanging.calls == 1
    assert threading.active_count() == threads + 1
    hanging.may_end.set()
    while threading.active_count() > threads:  # noqa: ASYNC110 - a thread has no event for it
        await asyncio.sleep(0.01)
    assert await patient.call()
    assert hanging.calls == 2


async def test_many_who_ask_at_once_get_one_call() -> None:
    hanging = Hanging()
    patient = Patient(hanging, 10)
    asked = [asyncio.ensure_future(patient.call()) for _ in range(5)]
    await asyncio.sleep(0.05)
    asked.pop().cancel()
    hanging.may_end.set()
    assert await asyncio.gather(*asked) == [True] * 4
    assert hanging.calls == 1


async def test_what_the_function_raises_is_raised_and_the_next_call_is_another() -> None:
    def fails() -> None:
        raise OSError("no such disk")

    hanging = Hanging(fails)
    hanging.may_end.set()
    patient = Patient(hanging, 10)
    for _ in range(2):
        with pytest.raises(OSError, match="no such disk"):
            await patient.call()
    assert hanging.calls == 2


def test_a_call_may_outlive_its_loop() -> None:
    hanging = Hanging()
    with capture_logs() as events:
        asyncio.run(_given_up(hanging))
        hanging.may_end.set()
        time.sleep(0.1)
    assert events == []


async def _given_up(hanging: Hanging) -> None:
    assert not await Patient(hanging, 0.02).call()


async def test_sizes_of_a_disk_that_hangs_take_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging()

    def sizes(_: object) -> list[int]:
        hanging()
        return [7]

    monkeypatch.setattr(disk_module, "_sizes", sizes)
    monkeypatch.setattr(disk_module, "PATIENCE", 0.05)
    disk = Disk(Storage(root=tmp_path))
    for _ in range(3):
        await disk.measure()
    assert (disk.sizes, hanging.calls) == ({}, 1)
    hanging.may_end.set()
    while not disk.sizes:
        await disk.measure()
    assert set(disk.sizes.values()) == {7}
