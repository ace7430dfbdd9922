"""Files that monitors attached: those that a result names, shown where they can do no harm."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from monitorkit.contracts import Outcome, RunResult, Window
from monitorkit.serving import attachments
from monitorkit.serving.services import Services

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN_ID = "20260102T000000000000Z-00000001"
NAME = f"{RUN_ID}-evidently-drift report.html"
ODD = ("../secret.txt", "a/b.html", "..", "C:\\x.html")


def result(*reports: str) -> RunResult:
    outcome = Outcome("evidently", "evidently_drift", "ok", (), 1.0, reports=reports)
    window = Window(250, AT, AT, "1", 86400.0)
    return RunResult(RUN_ID, "once", AT, AT, "m", window, 200, "ab", {}, None, (outcome,))


@pytest.fixture
def folder(services: Services) -> Path:
    folder = services.config.storage.reports
    folder.mkdir(parents=True)
    (folder.parent / "secret.txt").write_text("secret")
    return folder


async def test_a_report_runs_its_scripts_in_a_sandbox(
    services: Services, client: httpx.AsyncClient, folder: Path
) -> None:
    services.results.commit(result(NAME))
    (folder / NAME).write_text("<h1>drift</h1><script>1</script>")
    response = await client.get(f"/monitoring/results/{RUN_ID}/reports/{NAME}")
    assert response.text == "<h1>drift</h1><script>1</script>"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


async def test_what_a_browser_should_not_show_is_saved(
    services: Services, client: httpx.AsyncClient, folder: Path
) -> None:
    names = [f"{RUN_ID}-m-x{ending}" for ending in (".png", ".json", ".exe", "")]
    services.results.commit(result(*names))
    found = []
    for name in names:
        (folder / name).write_bytes(b"x")
        response = await client.get(f"/monitoring/results/{RUN_ID}/reports/{name}")
        headers = response.headers
        found.append((headers["content-type"], headers.get("content-disposition")))
    other = ("application/octet-stream", "attachment")
    assert found == [("image/png", None), ("application/json", None), other, other]


@pytest.mark.parametrize(
    "name", ["%2e%2e", "%2e%2e%2fsecret.txt", "..%2Fsecret.txt", "a%2Fb.html", "nothing.html"]
)
async def test_nothing_else_is_found(
    services: Services, client: httpx.AsyncClient, folder: Path, name: str
) -> None:
    services.results.commit(result(NAME, *ODD))
    (folder / "nothing.html").write_text("there, but no result names it")
    response = await client.get(f"/monitoring/results/{RUN_ID}/reports/{name}")
    assert response.status_code == 404


def test_names_that_lead_elsewhere_are_none() -> None:
    """The router lets no slash through, so no request shows what this is for."""
    assert attachments.names(result(NAME, *ODD)) == {NAME}


async def test_what_was_pruned_says_so(
    services: Services, client: httpx.AsyncClient, folder: Path
) -> None:
    services.results.commit(result(NAME))
    response = await client.get(f"/monitoring/results/{RUN_ID}/reports/{NAME}")
    assert (response.status_code, response.json()["title"]) == (404, "Not found")
    assert "the oldest are deleted" in response.json()["detail"]
    (folder / NAME).symlink_to(folder.parent / "secret.txt")
    assert (await client.get(f"/monitoring/results/{RUN_ID}/reports/{NAME}")).status_code == 404


async def test_a_result_that_is_not_there_has_no_reports(
    services: Services, client: httpx.AsyncClient, folder: Path
) -> None:
    services.results.commit(replace(result(), outcomes=()))
    (folder / NAME).write_text("x")
    for run_id in (RUN_ID, "nothing"):
        response = await client.get(f"/monitoring/results/{run_id}/reports/{NAME}")
        assert response.status_code == 404
