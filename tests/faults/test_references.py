"""The reference deleted, symlinked elsewhere or changed while the service runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from service_process import Service

pytestmark = pytest.mark.slow

SLOW = {"MONITORKIT_MONITORING__INTERVAL": "1h"}  # cycles come when the test asks for one
DATA, METADATA = "reference_data.csv", "reference_metadata.json"


@contextmanager
def folder_deleted(reference: Path, aside: Path) -> Iterator[None]:
    """All of it is gone."""
    shutil.copytree(reference, aside)
    shutil.rmtree(reference)
    yield
    aside.rename(reference)


@contextmanager
def file_deleted(reference: Path, aside: Path) -> Iterator[None]:
    """The data is gone."""
    (reference / DATA).rename(aside)
    yield
    aside.rename(reference / DATA)


@contextmanager
def folder_linked(reference: Path, aside: Path) -> Iterator[None]:
    """The folder is a link to a sound one: what it leads to may be another one tomorrow."""
    reference.rename(aside)
    reference.symlink_to(aside)
    yield
    reference.unlink()
    aside.rename(reference)


@contextmanager
def file_linked(reference: Path, aside: Path) -> Iterator[None]:
    """The data is a link to the same bytes."""
    (reference / DATA).rename(aside)
    (reference / DATA).symlink_to(aside)
    yield
    (reference / DATA).unlink()
    aside.rename(reference / DATA)


@contextmanager
def changed(reference: Path, _aside: Path) -> Iterator[None]:
    """One digit of one value."""
    path = reference / DATA
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-2] + b"9" + good[-1:] if good[-2:-1] != b"9" else good[:-2] + b"8\n")
    yield
    path.write_bytes(good)


@contextmanager
def metadata_changed(reference: Path, _aside: Path) -> Iterator[None]:
    """The data's hash is right, but somebody edited what is said of it."""
    path = reference / METADATA
    good = path.read_text()
    path.chmod(0o644)
    path.write_text(good.replace('"purpose": "', '"purpose": "Not '))
    yield
    path.write_text(good)


CASES = {
    folder_deleted: "missing",
    file_deleted: "missing",
    folder_linked: "unreadable",
    file_linked: "changed",
    changed: "changed",
    metadata_changed: "changed",
}


def test_without_its_reference_monitoring_stops_and_serving_goes_on(
    folder: Path, start: Callable[..., Service], applicant: dict[str, Any], tmp_path: Path
) -> None:
    """Needs `Monitors.verify` at the head of every cycle, and in `reference._read` the refusal of
    links and both hashes.
    """
    reference = folder / "monitoring/reference"
    service = start(folder, env=SLOW)
    with service.client() as client:
        for _ in range(30):
            assert client.post("/predict", json=applicant).status_code == 200
        expected = client.get("/health").json()["reference"]["hash"]
        for number, (case, status) in enumerate(CASES.items()):
            with case(reference, tmp_path / f"aside-{number}"):
                forced = client.post("/monitoring/run")
                assert forced.status_code == 409, case
                assert str(reference) in forced.text or "monitoring/reference" in forced.text
                health = client.get("/health").json()
                assert health["status"] == "degraded"
                assert health["reference"]["status"] == status, case
                if case in (changed, file_linked):
                    assert expected in forced.text
                assert client.post("/predict", json=applicant).status_code == 200
            assert client.post("/monitoring/run").status_code == 200, case
            health = client.get("/health").json()
            assert (health["status"], health["reference"]["status"]) == ("ok", "ok")
            assert health["reference"]["hash"] == expected
        listed = client.get("/monitoring/results").json()["results"]
    assert len(listed) == len(CASES)
    assert listed[0]["rows"] == 30 + len(CASES)
    assert service.stop() == 0
