"""The dashboard of a running service: a cycle by its button, Evidently's page, and a quick end."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headless import Watched, chromium

pytestmark = pytest.mark.slow

MONITORS = [
    {"name": "proxy-metrics", "use": "proxy_metrics"},
    {"name": "feature-drift", "use": "anytime_drift"},
    {"name": "evidently", "use": "evidently_drift", "options": {"sample": 300}},
]


def test_the_button_runs_a_cycle_and_its_pages_open(
    folder: Path, start: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    service = start(folder, env={"MONITORKIT_MONITORS": json.dumps(MONITORS)})
    with chromium() as browser:
        watched = Watched(browser)
        page = watched.page
        page.set_default_timeout(120_000)
        page.goto(service.url)
        assert page.url == f"{service.url}/dashboard"
        page.locator("#live.on").wait_for()
        assert "Serving" in page.inner_text("#glance")
        page.locator("#run").click()
        page.locator("#progress").get_by_text("Skipped: 0 rows").wait_for()
        page.locator("#glance").get_by_text("Last cycle skipped").wait_for()
        rows = [{**applicant, "age": 20 + number % 70} for number in range(250)]
        with service.client() as client:
            assert client.post("/predict/batch", json=rows).status_code == 200
        page.locator("#glance").get_by_text("250 predictions logged").wait_for()
        page.locator("#run").focus()
        page.keyboard.press("Enter")
        page.locator("#progress").get_by_text("A cycle runs").wait_for()
        page.locator("#progress").get_by_text("Completed in").wait_for()
        page.locator("#cycles tbody tr").wait_for()
        assert "of 10 features drifted" in page.inner_text("#glance")
        assert "forced" in page.inner_text("#cycles")
        assert "frozen for version 1" in page.inner_text("#service")
        assert watched.violations() == []
        assert watched.complaints == []
        assert watched.elsewhere(service.url) == []

        evidently = Watched(browser)
        address = page.locator("#cycles").get_by_text("evidently", exact=True).get_attribute("href")
        evidently.page.goto(f"{service.url}/{address}")
        evidently.page.get_by_text("Dataset Drift").first.wait_for(timeout=60_000)
        assert evidently.elsewhere(service.url) == []
        evidently.close()

        # A stream of events that is open does not hold up the end.
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 10
        page.locator("#live").get_by_text("not connected").wait_for()
    assert {event["level"] for event in service.events} <= {"info"}


def test_with_keys_the_page_is_open_and_what_it_shows_is_not(
    folder: Path, start: Callable[..., Any]
) -> None:
    """Needs `locked` in `app.shown`, and /dashboard in `guard.SCOPES`."""
    key = "a-key-of-this-test"
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    entry = {"name": "reader", "sha256": sha256, "scopes": ["read"]}
    service = start(folder, env={"MONITORKIT_SERVING__KEYS": json.dumps([entry])})
    with service.client() as client:
        page = client.get("/dashboard")
        assert page.status_code == 200
        assert "predictions logged" not in page.text
        assert client.get("/dashboard/static/dashboard.js").status_code == 200
        for path in ("events", "fragments/glance", "results/x"):
            assert client.get(f"/dashboard/{path}").status_code == 401
        bearer = {"Authorization": f"Bearer {key}"}
        fragment = client.get("/dashboard/fragments/glance", headers=bearer)
        assert fragment.status_code == 200
        assert "predictions logged" in fragment.text
    assert service.stop() == 0
