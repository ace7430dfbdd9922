"""A disk is told of before it is full, once, and /health says it; a real small one if we may."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pydantic import ByteSize
from small_disk import mounted

from monitorkit.config import Config
from monitorkit.disk_space import free_and_total
from monitorkit.serving import disk as disk_module
from monitorkit.serving.disk import Disk
from monitorkit.serving.services import Services
from monitorkit.settings import Storage

MIB = 1024 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    with mounted(tmp_path / "small", "8m") as folder:
        yield folder


def events(logged: list[Any]) -> list[str]:
    return [event["event"] for event in logged]


async def test_a_disk_that_fills_and_is_freed_is_told_of_once_each(small: Path) -> None:
    disk = Disk(Storage(root=small / "monitoring", disk_warning=ByteSize(3 * MIB)))
    ballast = small / "ballast"
    with structlog.testing.capture_logs() as logged:
        await disk.look()
        assert (disk.free, disk.almost_full, logged) == (8 * MIB, False, [])
        ballast.write_bytes(b"x" * 6 * MIB)
        await disk.look()
        await disk.look()
        assert disk.health() == {
            "free_bytes": 2 * MIB,
            "warning_bytes": 3 * MIB,
            "almost_full": True,
        }
        os.truncate(ballast, 5 * MIB - 65536)  # more than the limit, but not clearly
        await disk.look()
        assert disk.almost_full
        assert events(logged) == ["disk_almost_full"]
        ballast.unlink()
        await disk.look()
        assert not disk.almost_full
    assert events(logged) == ["disk_almost_full", "disk_space_recovered"]
    told = logged[0]
    assert told["log_level"] == "warning"
    assert (told["folder"], told["free_bytes"]) == (str(small / "monitoring"), 2 * MIB)
    assert "[log.retention]" in told["remedy"]


async def test_health_says_it_when_the_limit_is_above_what_is_free(
    serve: Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]],
    tmp_path: Path,
) -> None:
    async with serve() as (services, client):
        before = (await client.get("/health")).json()
        assert before["status"] == "ok"
        assert before["disk"]["almost_full"] is False
        services.disk._warning = 1 << 60
        with structlog.testing.capture_logs() as logged:
            await services.disk.look()
        after = (await client.get("/health")).json()
    assert events(logged) == ["disk_almost_full"]
    assert after["status"] == "degraded"
    assert any(str(tmp_path) in reason and "almost full" in reason for reason in after["reasons"])
    assert after["disk"]["free_bytes"] < 1 << 60


async def test_off_is_off(tmp_path: Path) -> None:
    config = Config.model_validate({"storage": {"root": tmp_path, "disk_warning": "off"}})
    disk = Disk(config.storage)
    with structlog.testing.capture_logs() as logged:
        await disk.look()
    assert logged == []
    assert disk.health()["warning_bytes"] is None


def test_a_folder_that_is_not_there_yet_has_the_space_of_its_parent(tmp_path: Path) -> None:
    found, there = free_and_total(tmp_path / "not" / "yet"), free_and_total(tmp_path)
    assert found is not None
    assert there is not None
    assert abs(found[0] - there[0]) < 2**30
    assert found[1] == there[1]


async def test_a_disk_that_cannot_be_asked_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(Storage(root=tmp_path))
    monkeypatch.setattr(disk_module, "free_and_total", lambda _: None)
    with structlog.testing.capture_logs() as logged:
        await disk.look()
        await disk.look()
    assert events(logged) == ["disk_not_measured"]
    assert disk.free is None
