"""The disk full, the log's folder away, the log cut or edited: nothing answered is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import Service

from benchmarks.evidence import LogEvidence, results
from benchmarks.traffic import APPLICANT, Traffic

pytestmark = pytest.mark.slow

Start = Callable[..., Service]
SLOW = {
    "MONITORKIT_MONITORING__INTERVAL": "1h",  # cycles come when the test asks for one
    "MONITORKIT_STORAGE__DISK_WARNING": "off",  # these disks are never larger
}


def ask(client: httpx.Client) -> str:
    """The id of a row that was answered."""
    answer = client.post("/predict", json=APPLICANT)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prediction_id"])


def refused(client: httpx.Client, *, because: str) -> None:
    """A row is answered with 503 that names the cause, and /health says the same."""
    answer = client.post("/predict", json=APPLICANT)
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "urn:monitorkit:problem:log-not-writable"
    assert because in answer.json()["detail"]
    health = client.get("/health").json()
    assert health["status"] == "degraded"
    assert health["reasons"] == ["the prediction log cannot be written"]
    assert health["log"]["failure"] == because
    assert client.get("/ready").status_code == 503


def recovered(client: httpx.Client) -> str:
    """A row is answered again without anybody's help, and /health says so."""
    assert client.get("/ready").status_code == 200
    identity = ask(client)
    assert client.get("/health").json()["status"] == "ok"
    return identity


def judged(client: httpx.Client) -> dict[str, Any]:
    """The result of a forced cycle."""
    answer = client.post("/monitoring/run")
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def test_a_full_disk_refuses_rows_and_recovers_when_there_is_room(
    folder: Path, start: Start, small_disk: Callable[[Path, str], Path]
) -> None:
    """Needs `LogFile._put`, which takes back a write that was cut short, and `Pipeline._flush`,
    which answers only what was appended.
    """
    predictions = small_disk(folder / "monitoring/predictions", "200k")
    service = start(folder, env=SLOW)
    with service.client() as client, Traffic(threads=4, seed=1) as traffic:
        traffic.to(service.url)
        deadline = time.monotonic() + 180
        while traffic.statuses[503] < 200:  # while it is full it goes on refusing
            assert time.monotonic() < deadline
            time.sleep(0.01)
        traffic.to(None)
        time.sleep(0.5)
        refused(client, because="No space left on device")
        logged = LogEvidence(predictions).check(traffic.answered).total()
        assert client.get("/health").json()["predictions_logged"] == logged
        assert judged(client)["window"]["rows"] == logged  # monitoring goes on with what there is
        # Room that this traffic, of a megabyte a second, does not fill while this thread waits.
        subprocess.run(["mount", "-o", "remount,size=64m", str(predictions)], check=True)
        refusals = traffic.statuses[503]
        last = recovered(client)
        traffic.to(service.url)
        answered = len(traffic.answered)
        while len(traffic.answered) < answered + 100:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert traffic.statuses[503] == refusals  # where there is room nothing is refused
    assert set(traffic.statuses) == {200, 503}
    assert traffic.cut == 0
    LogEvidence(predictions).check([*traffic.answered, last])
    events = [event["event"] for event in service.events]
    # A smaller batch may still fit where a larger one did not.
    failed = events.count("prediction_log_failed")
    assert failed == events.count("prediction_log_works_again") >= 1
    assert service.stop() == 0


@pytest.mark.exhaustive
def test_a_disk_on_which_nothing_has_room_stops_neither_service_nor_monitoring(
    folder: Path, start: Start, small_disk: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    """Needs `durable.replace_file` (no half result) and the `except` of the endpoint `run`; of
    periodic cycles that of `MonitoringLoop._run_cycles`, see `monitoring/test_loop.py`.
    """
    root, aside = folder / "monitoring", tmp_path / "aside"
    root.rename(aside)
    small_disk(root, "24m")
    shutil.copytree(aside, root, dirs_exist_ok=True)
    service = start(folder, env=SLOW)
    ballast = root / "ballast"
    with service.client() as client:
        answered = [ask(client) for _ in range(100)]
        assert judged(client)["window"]["rows"] == 100
        answered += [ask(client) for _ in range(20)]
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        while (answer := client.post("/predict", json=APPLICANT)).status_code == 200:
            answered.append(answer.json()["prediction_id"])  # the last page of the segment
        refused(client, because="No space left on device")
        forced = client.post("/monitoring/run")
        assert forced.status_code >= 500
        assert "No space left on device" in forced.text
        assert len(results(root / "metrics/monitoring_results")) == 1
        ballast.unlink()
        answered.append(recovered(client))
        assert judged(client)["window"]["rows"] == len(answered)
    assert len(results(root / "metrics/monitoring_results")) == 2
    LogEvidence(root / "predictions").check(answered)
    assert service.stop() == 0


def test_a_log_that_is_away_is_waited_for(folder: Path, start: Start, tmp_path: Path) -> None:
    """Needs `LogFile._get_ready` and `LogFile._noted`: what is at the path is looked at, before
    and after every write.
    """
    predictions, away = folder / "monitoring/predictions", tmp_path / "away"
    service = start(folder, env=SLOW)
    with service.client() as client:
        answered = [ask(client) for _ in range(50)]
        assert judged(client)["window"]["rows"] == 50

        predictions.rename(away)
        refused(client, because="the folder is gone")
        assert judged(client)["window"]["rows"] == 50
        away.rename(predictions)
        answered.append(recovered(client))

        predictions.rename(away)
        predictions.write_text("somebody put a file here")
        refused(client, because="Not a directory")
        predictions.unlink()
        away.rename(predictions)
        answered.append(recovered(client))
        assert judged(client)["window"]["rows"] == 52
        LogEvidence(predictions).check(answered)

        # Deleted: what was in it is gone with whoever did that; what is answered from now on stays.
        shutil.rmtree(predictions)
        refused(client, because="the folder is gone")
        predictions.mkdir()
        later = [recovered(client), *(ask(client) for _ in range(10))]
        assert list(LogEvidence(predictions).check(later)) == later
        judged(client)
        assert client.get("/health").json()["predictions_logged"] == 11
    assert service.stop() == 0


@pytest.mark.exhaustive
def test_a_log_that_nobody_may_write_is_waited_for(folder: Path, start: Start) -> None:
    """Needs `status.can_write`, which tries the segment itself. What cannot even be taken back is
    kept from readers by `LogFile._unsound`: see `prediction_log/test_log_faults.py`.
    """
    segment = folder / "monitoring/predictions/predictions.csv"
    service = start(folder, env=SLOW)
    with service.client() as client:
        answered = [ask(client) for _ in range(30)]
        assert judged(client)["window"]["rows"] == 30
        if shutil.which("chattr") is None or not immutable(segment, True):
            pytest.skip("no file can be made immutable here: no chattr, not root, or no such flag")
        try:
            refused(client, because="Operation not permitted")
            assert judged(client)["window"]["rows"] == 30
        finally:
            assert immutable(segment, False)
        answered.append(recovered(client))
        assert judged(client)["window"]["rows"] == 31
    assert list(LogEvidence(segment.parent).check(answered)) == answered
    assert service.stop() == 0


def immutable(path: Path, yes: bool) -> bool:
    """Make a file one that not even root may write."""
    flag = "+i" if yes else "-i"
    done = subprocess.run(["chattr", flag, str(path)], capture_output=True, check=False)
    return done.returncode == 0


def test_a_log_that_somebody_else_changes_loses_nothing_more(folder: Path, start: Start) -> None:
    """Needs `LogFile._changed_by_others`, `LogFile._open`, which closes a segment that was cut, and
    `Reader._resume`.
    """
    predictions = folder / "monitoring/predictions"
    segment = predictions / "predictions.csv"
    service = start(folder, env=SLOW)
    with service.client() as client:
        first = [ask(client) for _ in range(50)]
        assert judged(client)["window"]["rows"] == 50

        # As an editor saves: another file under the name, one row less.
        lines = segment.read_bytes().splitlines(keepends=True)
        edited = segment.with_name("edited")
        edited.write_bytes(b"".join(lines[:-1]))
        edited.replace(segment)
        kept = [*first[:-1], recovered(client)]
        assert LogEvidence(predictions).check(kept).total() == 50

        # Cut in the middle of a row, when monitoring has read beyond: it does not go on there.
        read = judged(client)["window"]["rows"]
        os.truncate(segment, segment.stat().st_size - 40)
        kept[-1:] = [recovered(client), ask(client)]
        service.wait_for("prediction_log_changed")
        torn = predictions.glob("*.torn")
        assert sum(path.read_bytes().count(b"\n") for path in torn) == 1
        assert LogEvidence(predictions).check(kept).total() == 51
        assert judged(client)["window"]["rows"] == read + 2

        # Half a line, and a whole one that is no row.
        with segment.open("ab") as file:
            file.write(b"no,row\nhalf a li")
        kept += [recovered(client), ask(client)]
        judged(client)
        skipped = service.wait_for("prediction_log_row_skipped")
        assert skipped["reason"] == "it has too few fields"
        assert segment.read_bytes()[skipped["offset"] :].startswith(b"no,row\n")
        text = b"".join(path.read_bytes() for path in predictions.glob("predictions*.csv"))
        assert all(text.count(identity.encode()) == 1 for identity in kept)
        assert b"half a li" not in text
        assert any(b"half a li" in path.read_bytes() for path in predictions.glob("*.torn"))
    assert service.stop() == 0
