"""The documentation site: it builds without a warning, needs no internet, leaves nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import monitorkit
from docs_site import links, reference
from monitorkit.cli import main
from monitorkit.config import Config
from monitorkit.serving.openapi import document

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `tox -e docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loaded(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given["href"])
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])


def read(page: Path) -> Loaded:
    parser = Loaded()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def pages(site: Path) -> Iterator[Path]:
    yield from (page for page in sorted(site.rglob("*.html")) if page.name != "404.html")


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        assert [load for load in read(page).loads if re.match(r"(https?:)?//", load)] == []
    styles = [style.read_text(encoding="utf-8") for style in site.rglob("*.css")]
    assert styles
    assert [style for style in styles if re.search(r"url\([\"']?(https?:)?//", style)] == []


def test_every_link_of_the_site_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    wrong = []
    for page in pages(site):
        for lead in read(page).leads:
            if re.match(r"[a-z]+:", lead):
                continue
            path, _, anchor = lead.partition("#")
            there = (page.parent / path).resolve() if path else page
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (
                anchor and there.suffix == ".html" and anchor not in read(there).ids
            ):
                wrong.append((page.name, lead))
    assert wrong == []


def test_every_page_of_docs_is_in_the_nav(site: Path) -> None:
    """A page that is not: add it to `nav` in mkdocs.yml, in one of its four kinds."""
    leads = {lead.partition("#")[0] for lead in read(site / "index.html").leads}
    named = {page.with_suffix(".html").name for page in (ROOT / "docs").glob("*.md")}
    assert named - leads == set()
    assert {f"reference/{name}.html" for name in reference.pages()} - leads == set()


def test_the_reference_has_every_command_and_option() -> None:
    page = reference.commands()
    for name, command in main.commands.items():
        assert f"\n## {name}\n" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert option.removeprefix("--") in page.lower()


def test_the_reference_has_every_key() -> None:
    page = reference.configuration()
    for header in ("[storage]", "[monitoring.verdict]", "[[monitors]]", "[schema.FEATURE]"):
        assert f"\n## {header}\n" in page
    assert "`MONITORKIT_MONITORING__VERDICT__DRIFT_SHARE`" in page
    assert "`MONITORKIT_SERVING__KEYS__" not in page
    keys = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(keys) == sorted(_keys_of(Config))


def _keys_of(model: type) -> Iterator[str]:
    for key, field in model.model_fields.items():  # type: ignore[attr-defined] # a pydantic model
        inner = reference._section(field.annotation)
        yield from [field.alias or key] if inner is None else _keys_of(inner)


def test_the_reference_has_every_endpoint() -> None:
    page = reference.endpoints()
    for path, operations in document(None, Config())["paths"].items():
        for method in operations:
            assert f"\n### {method.upper()} {path}\n" in page


def test_the_reference_has_every_hook_kind_and_name() -> None:
    page = reference.plugins()
    for name in ("monitorkit_monitors", "monitorkit_sinks", "anytime_drift", "mlflow"):
        assert f"\n### {name}\n" in page
    for name in monitorkit.__all__:
        assert f"\n### {name}\n" in page
    assert "| `false_alarm_rate` |" in page


def test_links_are_turned_to_where_files_stand_in_the_site(tmp_path: Path) -> None:
    (tmp_path / "docs" / "examples" / "one").mkdir(parents=True)
    page = "[a](../README.md#run-it) [b](../benchmarks/results/x.md) [c](files.md#state)\n"
    page += "[d](examples/one) [e](https://example.org) [f](#here)\n\n[g]: ../SECURITY.md\n"
    page += "```\n[h](../README.md)\n```\n"
    assert links.rewritten("docs/page.md", page, tmp_path) == (
        "[a](index.md#run-it) [b](benchmarks/results/x.md) [c](files.md#state)\n"
        "[d](examples/one/README.md) [e](https://example.org) [f](#here)\n\n[g]: SECURITY.md\n"
        "```\n[h](../README.md)\n```\n"
    )
    assert links.rewritten("README.md", "[a](docs/page.md)", tmp_path) == "[a](page.md)"
    below = links.rewritten("benchmarks/results/x.md", "[a](../../docs/page.md)", tmp_path)
    assert below == "[a](../../page.md)"
