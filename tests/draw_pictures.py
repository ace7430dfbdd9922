"""Draws the dashboard's pictures in docs/ anew: `tox -e pictures`.

A service of the synthetic data set, with results of eight hours that the real monitors made: quiet
ones, and ones in which three columns changed one after the other. Needs Chromium.
"""

from __future__ import annotations

import io
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from headless import chromium
from made_history import Change, make_history, unchanged
from PIL import Image
from playwright.sync_api import Browser
from service_process import Service, run_command

from monitorkit import config, reference
from monitorkit.contracts import Chunk, Outcome, RunResult
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.results import Results

DOCS = Path(__file__).parents[1] / "docs"
CYCLES = 96
SERVED_ROWS = "1200"
FAILED, RELOADED = 20, 30
"""The cycles in which a monitor fails, and from which on another model version serves."""

LOWER_INCOME, ALL_USED, FEWER_ANSWERS = 52, 64, 78
"""The cycles from which on columns change."""

Shot = tuple[str, int, int, Literal["light", "dark"]]
WIDE: Sequence[Shot] = (
    ("dashboard-drift.png", 1280, 1560, "light"),
    ("dashboard-dark.png", 1280, 1560, "dark"),
    ("dashboard-phone.png", 390, 1700, "light"),
)


def main() -> None:
    """Draw all of them."""
    with tempfile.TemporaryDirectory() as name, chdir(name), chromium() as browser:
        folder = Path(name)
        run_command(folder, "train")
        run_command(folder, "bootstrap")
        draw(browser, folder, [("dashboard-empty.png", 1280, 900, "light")])
        frozen = reference.load(config.load().storage.reference)
        scored = scored_reference(config.load(), frozen, "1")
        of_both: Sequence[tuple[Change, Sequence[Shot], str]] = (
            (unchanged, [("dashboard-quiet.png", 1280, 1560, "light")], SERVED_ROWS),
            (changed(scored.columns), WIDE, ""),
        )
        for change, shots, rows in of_both:
            made = history(scored, change)
            keep([replace(each, reference_hash=frozen.metadata.reference_hash) for each in made])
            draw(browser, folder, shots, rows)


def history(scored: Chunk, change: Change) -> list[RunResult]:
    """The results of eight hours, up to now; a monitor fails once."""
    rows = [round(150 + 60 * math.sin(math.tau * number / 160)) for number in range(CYCLES)]
    made: list[RunResult] = make_history(
        scored,
        CYCLES,
        last=datetime.now(UTC),
        rows=rows,
        change=change,
        version=lambda number: "1" if number >= RELOADED else "0",
        before=200,
    )
    proxies, drift = made[FAILED].outcomes
    failed = Outcome(proxies.name, proxies.kind, "failed", (), 0.1, error="ValueError: no rows")
    made[FAILED] = replace(made[FAILED], outcomes=(failed, drift))
    return made


def changed(names: Sequence[str]) -> Change:
    """Income drops, then all credit is used, then people say less of their dependents."""
    used, income, dependents = (
        names.index(name)
        for name in (
            "RevolvingUtilizationOfUnsecuredLines",
            "MonthlyIncome",
            "NumberOfDependents",
        )
    )

    def change(number: int, chunk: Chunk) -> Chunk:
        features, scores = chunk.features.copy(), chunk.scores
        some = np.random.default_rng(number + 1000).random(len(chunk))
        if number >= LOWER_INCOME:
            features[:, income] *= 0.8
        if number >= ALL_USED:
            features[some < 0.7, used] = 1.0
            scores = np.minimum(np.where(some < 0.7, 1.6 * scores + 0.05, scores), 1.0)
        if number >= FEWER_ANSWERS:
            features[some < 0.4, dependents] = np.nan
        return Chunk(chunk.ids, chunk.times, chunk.columns, features, scores)

    return change


def keep(made: Sequence[RunResult]) -> None:
    """These results and no others."""
    results = Results(config.load().storage.results)
    shutil.rmtree(results.folder, ignore_errors=True)
    for each in made:
        results.commit(each)


def draw(browser: Browser, folder: Path, shots: Sequence[Shot], rows: str = "") -> None:
    """Start a service, send it so many rows, and draw its dashboard."""
    service = Service(folder)
    try:
        address = service.url
        service.wait_for("model_loaded")
        if rows:
            run_command(folder, "simulate", "--rows", rows, "--url", address)
        for name, width, height, scheme in shots:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.goto(f"{address}/dashboard")
            page.get_by_text("live", exact=True).wait_for()
            page.wait_for_timeout(1500)
            with Image.open(io.BytesIO(page.screenshot())) as picture:
                # The usual method mixes colours of which there is little, and they mean something.
                few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
                few.save(DOCS / name, optimize=True)
            page.close()
            sys.stdout.write(f"{DOCS / name}\n")
    finally:
        service.stop()


if __name__ == "__main__":
    main()
