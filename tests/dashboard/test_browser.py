"""The page in a real browser: complete, alive, accessible, and at peace with its policy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from headless import Watched, chromium
from made_history import copies
from starlette.types import ASGIApp, Receive, Scope, Send

from monitorkit.config import Config
from monitorkit.contracts import MonitoringStatus, RunResult
from monitorkit.dashboard.live import Live
from monitorkit.dashboard.routes import routes
from monitorkit.dashboard.sources import Sources
from monitorkit.results import Results
from monitorkit.serving.application import Application
from monitorkit.serving.protocol import Protocol

pytestmark = pytest.mark.slow

KEY = "a key of this test"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def watch(browser: Any) -> Iterator[Callable[..., Watched]]:
    pages: list[Watched] = []

    def begin(**context: Any) -> Watched:
        pages.append(Watched(browser, **context))
        return pages[-1]

    yield begin
    for page in pages:
        page.close()


class Site:
    """A dashboard on a free port, in a thread."""

    def __init__(self, app: ASGIApp, results: Results) -> None:
        self.results = results
        self.server = uvicorn.Server(
            uvicorn.Config(
                app, port=0, log_config=None, access_log=False, lifespan="on", http=Protocol
            )
        )
        self._thread = threading.Thread(target=self.server.run)

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()


def guarded(app: ASGIApp) -> ASGIApp:
    """Data for those only who send the key, as API keys in the configuration have it."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        open_ = path == "/dashboard" or path.startswith("/dashboard/static/")
        given = dict(scope.get("headers", ())).get(b"authorization")
        if scope["type"] == "lifespan" or open_ or given == b"Bearer " + KEY.encode():
            await app(scope, receive, send)
            return
        body = b'{"detail": "The Authorization header is missing."}'
        headers = [(b"content-type", b"application/problem+json")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return guard


@pytest.fixture
def site(
    tmp_path: Path, status: MonitoringStatus, health: dict[str, Any]
) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def begin(*committed: RunResult, locked: bool = False) -> Site:
        config = Config.model_validate({"storage": {"root": tmp_path / "monitoring"}})
        results = Results(config.storage.results)
        for result in committed:
            results.commit(result)

        @asynccontextmanager
        async def lifespan(app: Application) -> AsyncIterator[None]:
            sources = Sources(config, results, lambda: health, lambda: status, locked)
            live = Live(sources)
            app.add(*routes(sources, live))

            async def end() -> None:
                while not sites[-1].server.should_exit:  # noqa: ASYNC110 - uvicorn has no event
                    await asyncio.sleep(0.02)
                live.stop()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(live.run)
                tasks.start_soon(end)
                yield
                tasks.cancel_scope.cancel()

        app: ASGIApp = Application(config.serving, lifespan)
        sites.append(Site(guarded(app) if locked else app, results))
        sites[-1].start()
        return sites[-1]

    yield begin
    for each in sites:
        each.stop()


Begin = Callable[..., Site]
Watch = Callable[..., Watched]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_it_is_accessible_and_asks_nobody_else(
    site: Begin, watch: Watch, history: list[RunResult], scheme: str, viewport: Any
) -> None:
    place = site(*history)
    watched = watch(color_scheme=scheme, viewport=viewport or {"width": 1280, "height": 900})
    watched.page.goto(f"{place.url}/dashboard")
    watched.page.locator("#live.on").wait_for()
    assert "1 of 3 features drifted" in watched.page.inner_text("#glance")
    assert watched.page.locator("#features tbody tr").count() == 3
    assert watched.page.locator("#cycles tbody tr").count() == 6
    assert "ago)" in watched.page.inner_text("#glance")
    assert watched.violations() == []
    assert watched.complaints == []
    assert watched.elsewhere(place.url) == []
    # Nothing is wider than the screen, but tables that scroll by themselves.
    assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_follows_new_results_and_disturbs_nobody(
    site: Begin, watch: Watch, history: list[RunResult]
) -> None:
    place = site()
    watched = watch(viewport={"width": 1280, "height": 500})
    page = watched.page
    page.goto(f"{place.url}/dashboard")
    page.locator("#live.on").wait_for()
    assert "Not known yet" in page.inner_text("#glance")
    page.evaluate("window.loadedOnce = true")
    place.results.commit(history[0])
    page.get_by_text("No drift shown").wait_for()
    link = page.locator(f"a[href='dashboard/results/{history[0].run_id}']")
    link.focus()
    top = page.evaluate("scrollY")
    place.results.commit(history[-1])
    page.get_by_text("1 of 3 features drifted").wait_for()
    page.locator(f"a[href='dashboard/results/{history[-1].run_id}']").wait_for()
    assert page.evaluate("window.loadedOnce") is True
    assert link.evaluate("link => link === document.activeElement")
    assert abs(page.evaluate("scrollY") - top) < 400
    assert watched.complaints == []
    assert watched.elsewhere(place.url) == []


def test_a_part_that_was_not_answered_is_asked_for_again(
    site: Begin, watch: Watch, history: list[RunResult]
) -> None:
    """Until it came the page would call itself live and show what is out of date."""
    place = site(history[0])
    page = watch().page
    page.goto(f"{place.url}/dashboard")
    page.locator("#live.on").wait_for()
    refused: list[str] = []

    def once(route: Any) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, body="busy")

    page.route("**/dashboard/fragments/features", once)
    place.results.commit(history[-1])
    page.get_by_text("1 of 3 features drifted").wait_for()
    page.locator(f"a[href='dashboard/results/{history[-1].run_id}']").wait_for()
    page.wait_for_function("document.querySelector('#features').textContent.includes('drifted')")
    page.locator("#live.on").wait_for()
    assert len(refused) == 1


def test_everything_can_be_reached_by_keyboard(
    site: Begin, watch: Watch, history: list[RunResult]
) -> None:
    place = site(*history)
    page = watch().page
    page.goto(f"{place.url}/dashboard")
    page.locator("#live.on").wait_for()
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(e => [e.id || e.getAttribute('href') || e.className, "
            "getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if not found[0]:  # the body: once around
            break
        reached.append(found[0])
        assert found[1] != "none", found  # one sees where it is
    assert reached[:2] == ["#main", "run"]
    assert "scroll" in reached
    for result in history:
        assert f"monitoring/results/{result.run_id}" in reached


def test_no_name_becomes_a_script(site: Begin, watch: Watch, history: list[RunResult]) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    judged = history[-1].outcomes[1]
    findings = [
        replace(f, column=evil, detail={**f.detail, "says": evil}) if f.column == "income" else f
        for f in judged.findings
    ]
    outcomes = [
        history[-1].outcomes[0],
        replace(judged, findings=findings),
        replace(judged, name=evil, status="failed", error=evil, findings=()),
    ]
    place = site()
    watched = watch()
    watched.page.goto(f"{place.url}/dashboard")
    watched.page.locator("#live.on").wait_for()
    place.results.commit(replace(history[-1], outcomes=outcomes))
    watched.page.locator("#features").get_by_text(evil).wait_for()
    assert watched.page.locator("main img, main script").count() == 0
    watched.page.goto(f"{place.url}/dashboard/results/{history[-1].run_id}")
    watched.page.locator("td, th").get_by_text(evil).first.wait_for()
    assert watched.complaints == []


def test_a_key_is_asked_for_and_used(site: Begin, watch: Watch, history: list[RunResult]) -> None:
    place = site(*history, locked=True)
    watched = watch()
    page = watched.page
    page.goto(f"{place.url}/dashboard")
    page.get_by_text("The Authorization header is missing.").wait_for()
    assert "drift" not in page.inner_text("main")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.insert_text(f"\u200b{KEY}")  # as it is copied from some pages
    page.keyboard.press("Enter")
    page.get_by_text("It holds a character that no key has").wait_for()
    page.keyboard.press("Control+A")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    page.get_by_text("1 of 3 features drifted").wait_for()
    assert page.locator("#key-form").is_hidden()
    page.reload()
    page.get_by_text("1 of 3 features drifted").wait_for()
    assert KEY not in page.content()
    assert not [url for url in watched.requests if "key" in url.lower()]
    # The refusal itself stands in the console, and nothing else.
    assert {text.partition(" (")[0] for text in watched.complaints} == {
        "Failed to load resource: the server responded with a status of 401"
    }


def test_older_cycles_are_shown_behind_a_key(
    site: Begin, watch: Watch, history: list[RunResult]
) -> None:
    place = site(history[-1], locked=True)
    copies(place.results, history[0], 30, before=history[0].finished_at)
    page = watch().page
    page.goto(f"{place.url}/dashboard")
    page.locator("#key").fill(KEY)
    page.keyboard.press("Enter")
    page.locator("#older").click()
    page.get_by_text("The newest").wait_for()
    assert page.locator("#cycles tbody tr").count() == 6


def test_ten_thousand_cycles_are_readable(
    site: Begin, watch: Watch, history: list[RunResult]
) -> None:
    place = site(history[-1])
    copies(place.results, history[0], 9_999, before=history[0].finished_at - timedelta(hours=1))
    watched = watch()
    watched.page.goto(f"{place.url}/dashboard")
    watched.page.locator("#cycles").get_by_text("9,999 without drift, 1 with").wait_for(
        timeout=120_000
    )
    assert "All 10,000 cycles kept" in watched.page.inner_text("#cycles")
    assert watched.page.locator("#cycles tbody tr").count() == 25
    assert watched.page.evaluate("document.querySelectorAll('*').length") < 3000
    watched.page.locator("#older").click()
    watched.page.get_by_text("The newest").wait_for()
    assert watched.violations() == []
    assert watched.complaints == []
