"""The page: what stands in it, that it is well-formed, and that no name gets out of its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from made_history import copies

from monitorkit import delivered
from monitorkit.contracts import CycleNote, Finding, MonitoringStatus, Outcome, RunResult
from monitorkit.dashboard import timeline
from monitorkit.dashboard.outlines import Outline
from monitorkit.dashboard.pages import FRAGMENTS
from monitorkit.dashboard.routes import POLICY
from monitorkit.delivered import Delivered

Show = Callable[..., AbstractAsyncContextManager[Any]]

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
VOID = {"meta", "link", "input", "br", "wbr"}
EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'</title></style>{{ 7*7 }}"


class Checked(HTMLParser):
    """Fails on a tag that is closed wrongly; keeps what must not be there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.forbidden: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append(found)
        self.ids += [str(found["id"])] if "id" in found else []
        self.forbidden += [name for name in found if name.startswith("on") or name == "style"]
        self.addresses += [str(found[name]) for name in ("href", "src") if name in found]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


async def page(shown: Any, address: str = "/dashboard") -> Checked:
    response = await shown.client.get(address)
    assert response.status_code == 200
    assert response.headers["content-security-policy"] == POLICY
    checked = Checked(response.text)
    assert checked.forbidden == []
    assert [script["src"] for script in checked.scripts if script["src"]] != []
    assert len(checked.scripts) == 1
    assert len(checked.ids) == len(set(checked.ids))
    assert [a for a in checked.addresses if "//" in a or a.startswith("/")] == []
    return checked


async def test_without_a_result_it_says_so(show: Show) -> None:
    async with show() as shown:
        said = (await page(shown)).said
    assert "Not known yet" in said
    assert "12,345 predictions logged" in said
    assert "No cycle was kept so far" in said
    assert "Nothing was judged so far" in said


async def test_one_result_is_shown_whole(show: Show, history: list[RunResult]) -> None:
    async with show(history[0]) as shown:
        checked = await page(shown)
    assert "No drift shown" in checked.said
    for name in ("income", "late", "age"):
        assert name in checked.said
    assert f"monitoring/results/{history[0].run_id}" in checked.addresses
    assert f"dashboard/results/{history[0].run_id}" in checked.addresses
    assert "1 cycle, 2 Jan 11:35 UTC to 2 Jan 11:35 UTC" in checked.said


async def test_a_drift_is_told_of_in_sentences(show: Show, history: list[RunResult]) -> None:
    async with show(*history) as shown:
        checked = await page(shown)
    assert "1 of 3 features drifted" in checked.said
    assert "drifted since 2026-01-02 11:45 UTC: a distance of" in checked.said
    assert "3 without drift, 3 with" in checked.said
    assert "MLflow run" in checked.said
    assert "monitoring v1 2026-01-02" in checked.said
    assert "2 results to take" in checked.said


async def test_a_skipped_cycle_is_told_of_with_its_reason(
    show: Show, status: MonitoringStatus
) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    note = CycleNote("skipped", at, "periodic", rows=3, reason="3 rows, 200 are needed")
    async with show(status=replace(status, last_cycle=note)) as shown:
        said = (await page(shown)).said
    assert "Last cycle skipped" in said
    assert "3 rows, 200 are needed" in said


async def test_no_name_gets_out_of_its_place(show: Show, history: list[RunResult]) -> None:
    findings = tuple(
        replace(finding, column=EVIL, detail={**finding.detail, "says": EVIL})
        if finding.column == "income"
        else finding
        for finding in history[-1].outcomes[1].findings
    )
    evil = replace(
        history[-1],
        model_name=EVIL,
        window=replace(history[-1].window, model_version=EVIL),
        drift=replace(history[-1].drift, drifted_features=(EVIL,)),  # type: ignore[type-var]
        outcomes=[
            history[-1].outcomes[0],
            replace(history[-1].outcomes[1], findings=findings),
            Outcome(EVIL, EVIL, "failed", (), 1.0, error=EVIL, reports=(EVIL,)),
            Outcome("odd", "x", "ok", (Finding(EVIL, 1.0, statistic=EVIL),), 1.0),
        ],
    )
    async with show(evil) as shown:
        checked = await page(shown)
        report = await shown.client.get(f"/dashboard/results/{evil.run_id}")
    assert checked.said.count("alert(1)") > 6
    assert "49" not in EVIL
    written = Checked(report.text)
    assert written.scripts == []
    assert written.forbidden == []
    assert written.said.count("alert(1)") > 4


async def test_a_cycle_leads_to_where_its_sinks_have_it(
    show: Show, history: list[RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitorkit.dashboard.live._STALE", 0.0)
    async with show(*history) as shown:
        before = await page(shown)
        assert "monitoring v1 2026-01-02" in "".join(before.text)
        known = Delivered()
        for number, result in enumerate(history[:4]):
            link = "https://ml.example/#/runs/1" if number < 3 else "javascript:alert(1)"
            known = known.with_result("mlflow", result.run_id, link)
        delivered.write(shown.sources.config.storage.state, known)
        after = Checked((await shown.client.get("/dashboard")).text)
    assert before.addresses.count("https://ml.example/#/runs/1") == 0
    assert after.addresses.count("https://ml.example/#/runs/1") == 3
    assert [address for address in after.addresses if address.startswith("javascript")] == []


async def test_older_cycles_are_pages_of_their_own(show: Show, history: list[RunResult]) -> None:
    async with show(history[-1]) as shown:
        copies(shown.results, history[0], 60, before=history[0].finished_at)
        async with asyncio.timeout(20):
            while True:
                first = await page(shown)
                if "60 without drift" in first.said:
                    break
                await asyncio.sleep(0.1)
        (older,) = [a for a in first.addresses if "?before=" in a]
        second = await page(shown, f"/{older.partition('#')[0]}")
        last = await page(shown, f"/{next(a for a in second.addresses if '?b' in a).split('#')[0]}")
        beyond = await page(shown, "/dashboard?before=20000101T000000000000Z-00000000")
    json = [
        {a for a in checked.addresses if a.startswith("monitoring/results/")}
        for checked in (first, second, last)
    ]
    assert [len(found) for found in json] == [timeline.PAGE, timeline.PAGE, 11]
    assert len(set.union(*json)) == 61
    assert not [a for a in last.addresses if "?before=" in a]
    assert "There are no older ones." in beyond.said


async def test_with_keys_the_page_is_a_shell_without_data(
    show: Show, history: list[RunResult]
) -> None:
    async with show(*history, locked=True) as shown:
        response = await shown.client.get("/dashboard?before=x")
        checked = Checked(response.text)
        fragment = await shown.client.get("/dashboard/fragments/features")
        older = await shown.client.get(f"/dashboard/fragments/cycles?before={history[2].run_id}")
    assert "drift" not in checked.said
    assert "12,345" not in checked.said
    assert [run.run_id in older.text for run in history] == [True, True, False, False, False, False]
    assert 'data-once="dashboard/fragments/cycles?before=x"' in response.text
    assert set(FRAGMENTS) <= set(checked.ids)
    assert "income" in fragment.text


async def test_what_is_not_there_is_not_found(show: Show) -> None:
    async with show() as shown:
        for address in (
            "/dashboard/fragments/nothing",
            "/dashboard/static/nothing.js",
            "/dashboard/static/..%2Fpages.py",
            "/dashboard/results/nothing",
        ):
            response = await shown.client.get(address)
            assert response.status_code == 404, address
            assert response.headers["content-type"] == "application/problem+json"
        for file in ("dashboard.css", "dashboard.js", "icon.svg"):
            response = await shown.client.get(f"/dashboard/static/{file}")
            assert response.status_code == 200
            assert "://" not in response.text.replace("http://www.w3.org/2000/svg", "")


async def test_a_result_that_is_gone_is_a_page_with_a_way_back(show: Show) -> None:
    async with show() as shown:
        response = await shown.client.get("/dashboard/results/<b>", headers=BROWSER)
    checked = Checked(response.text)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "There is no such result" in checked.said
    assert "<b>: it was never there" in checked.said
    assert 'href="../../dashboard"' in response.text
    assert "refresh" not in response.text


async def test_results_that_cannot_be_read_are_a_page_that_asks_again(
    show: Show, history: list[RunResult]
) -> None:
    async with show(history[0]) as shown:
        folder = shown.results.folder
        folder.rename(folder.with_name("elsewhere"))
        folder.write_text("a file in its place")
        for address in ("/dashboard", f"/dashboard/results/{history[0].run_id}"):
            told = await shown.client.get(address)
            assert told.json()["type"].endswith(":results-unreadable"), address
            response = await shown.client.get(address, headers=BROWSER)
            checked = Checked(response.text)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5"), address
            assert response.headers["content-type"].startswith("text/html")
            assert f"The results in {folder} cannot be read: Not a directory" in checked.said
            assert '<meta http-equiv="refresh" content="5">' in response.text
        folder.unlink()
        folder.with_name("elsewhere").rename(folder)
        assert (await shown.client.get("/dashboard")).status_code == 200


async def test_an_alarm_that_cannot_be_judged_now_is_shown(
    show: Show, history: list[RunResult]
) -> None:
    """Its findings have no value: there was no start to look from."""
    result = history[-1]

    def carried(finding: Finding) -> Finding:
        says = "drifted since 2026-01-02 11:45 UTC: too few rows of late to look again"
        detail = {"verdict": "undecided", "alarm": "continuing", "says": says}
        return replace(finding, value=None, interval=None, threshold=None, detail=detail)

    outcomes = [
        replace(each, findings=tuple(carried(f) for f in each.findings if f.column is not None))
        if each.name == "feature-drift"
        else each
        for each in result.outcomes
    ]
    async with show(*history[:-1], replace(result, outcomes=outcomes)) as shown:
        page = await shown.client.get("/dashboard")
        assert page.status_code == 200
        assert "too few rows of late to look again" in page.text
        report = await shown.client.get(f"/dashboard/results/{result.run_id}")
        assert report.status_code == 200


def test_a_clock_that_was_ahead_leaves_every_cycle_in_the_plot(history: list[RunResult]) -> None:
    outlines = [Outline.of(result) for result in history[:5]]
    assert timeline._places(outlines[:1]) == [1.0]
    in_order = timeline._places(outlines)
    assert (in_order[0], in_order[-1]) == (0.0, 1.0)
    assert in_order == sorted(in_order)
    for at in range(5):
        ahead = list(outlines)
        ahead[at] = replace(ahead[at], finished_at=ahead[at].finished_at + timedelta(days=3650))
        places = timeline._places(ahead)
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0.0, 1.0)
        assert at == 4 or places == [0.0, 0.25, 0.5, 0.75, 1.0]
