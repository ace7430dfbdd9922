"""A real headless Chromium, and what a page asked for and complained of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PLACES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium of the system; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, PLACES)), None)
    if path is None:
        pytest.skip(f"no Chromium here: none of {', '.join(PLACES)} is in the PATH")
    sandbox = [] if os.name == "nt" or os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=sandbox, timeout=120_000)
        yield browser
        browser.close()


class Watched:
    """A page that tells of everything it did.

    Attributes:
        page: Playwright's.
        complaints: errors and warnings of its console, exceptions, and dialogs.
        requests: addresses that it asked for.
    """

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.page: Page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(SECONDS)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def close(self) -> None:
        self.page.context.close()

    def elsewhere(self, origin: str) -> list[str]:
        """Requests to any other origin."""
        home = urlsplit(origin).netloc
        return [url for url in self.requests if urlsplit(url).netloc not in (home, "")]

    def violations(self) -> list[str]:
        """What axe-core finds serious or critical."""
        spec = find_spec("axe_playwright_python")
        assert spec is not None
        assert spec.submodule_search_locations
        source = Path(next(iter(spec.submodule_search_locations))) / "axe.min.js"
        # By the debugger's door, for the page's policy lets no such script in.
        self.page.evaluate(source.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")
        return [
            f"{each['id']}: {node['html'][:200]}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
