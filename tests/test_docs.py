"""The documentation is true: every command, endpoint, kind and example in it is the real one."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest
from monitorkit_plugins.rule import RuleMonitor, RuleOptions

from monitorkit import plugin_manager
from monitorkit.cli import main
from monitorkit.config import Config
from monitorkit.counts import ColumnOptions
from monitorkit.serving.openapi import document
from monitorkit.testing import check_monitor, make_chunk
from monitorkit.training.synthetic import COLUMNS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "share_below.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("share_below", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["share_below"] = module
    spec.loader.exec_module(module)
    return module


def test_the_guide_shows_the_example_as_it_is() -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert EXAMPLE.read_text(encoding="utf-8") in blocks


def test_the_example_is_a_complete_monitor_in_under_40_lines(example: ModuleType) -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 40
    options = example.ShareBelowOptions(column="a", limit=-9.0)
    check_monitor(example.ShareBelow(options, make_chunk(seed=1)), make_chunk(seed=2))


def test_the_example_is_found_by_its_path() -> None:
    kinds = plugin_manager.kinds(plugin_manager.build([EXAMPLE]))
    (kind,) = [kind for kind in kinds if kind.kind == "share_below"]
    assert kind.source == str(EXAMPLE)


def test_the_rules_of_the_guide_and_the_configuration_are_rules() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)
    (written,) = [tomllib.loads(block)["monitors"][0] for block in blocks if '"rule"' in block]
    commented = (ROOT / "config" / "monitorkit.toml").read_text(encoding="utf-8")
    shown = re.findall(r"^# (options = \{ rule = .*)$", commented, flags=re.MULTILINE)
    inline = re.findall(r"`(?:`)?((?:share|mean|missing)\(.*?\))`", GUIDE)
    rules = [
        *written["options"]["rule"],
        *tomllib.loads(shown[0])["options"]["rule"],
        *(f"{text} < 1" for text in inline if not re.search(r"\((condition|column)\)", text)),
    ]
    assert len(rules) >= 7
    reference = make_chunk(50, COLUMNS)
    RuleMonitor(RuleOptions.model_validate({"rule": list(dict.fromkeys(rules))}), reference)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"^\| `{name}\b", README, flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_explains_itself(name: str) -> None:
    command = main.commands[name]
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help and not option.is_flag] == []


ENDPOINTS = sorted(set(document(None, Config())["paths"]) - {"/docs/{file}"})


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_endpoint_is_in_the_readme(path: str) -> None:
    assert f"{path}`" in README


@pytest.mark.parametrize("kind", plugin_manager.kinds(plugin_manager.build()), ids=str)
def test_every_kind_is_in_the_changelog_or_the_readme(kind: plugin_manager.Kind) -> None:
    assert f"`{kind.kind}`" in README + (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", plugin_manager.kinds(plugin_manager.build()), ids=str)
def test_every_option_of_every_kind_is_in_the_page_of_monitors(kind: plugin_manager.Kind) -> None:
    page = (ROOT / "docs" / "monitors.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{kind.kind}` \|.*$", page, flags=re.MULTILINE)
    assert row is not None
    options = kind.cls.options_type
    for_all = ColumnOptions.model_fields if issubclass(options, ColumnOptions) else {}
    of_kind = [name for name in options.model_fields if name not in for_all]
    assert [name for name in of_kind if not re.search(rf"`{name}\b", row[0])] == []
    for name, default in re.findall(r"`(\w+) = ([^`]+)`", row[0]):
        written = options.model_validate(tomllib.loads(f"{name} = {default}"))
        assert getattr(written, name) == options.model_fields[name].default


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    links += re.findall(r"^\[[^\]]+\]: (?!https?:)([^#\n]+)", text, flags=re.MULTILINE)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_metric_is_in_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    names: set[str] = set()
    for module in ("metrics.py", "state_metrics.py", "traffic.py"):
        source = (ROOT / "monitorkit" / "serving" / module).read_text(encoding="utf-8")
        found = re.findall(r'"(monitorkit_\w+)"', source)
        assert found
        names |= set(found)
    assert len(names) >= 30
    assert [name for name in sorted(names) if f"`{name}" not in page] == []


def test_every_event_is_in_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    sources = [*(ROOT / "monitorkit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    events = {event for path in sources for event in events_of(path)}
    assert len(events) >= 80
    assert sorted(event for event in events if f"`{event}`" not in page) == []


def events_of(path: Path) -> set[str]:
    """The events that a module logs by their names."""
    levels = "debug|info|warning|error|exception"
    return {
        call.args[0].value
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and re.fullmatch(rf"(log|logs\.get\(__name__\))\.({levels})|tell", ast.unparse(call.func))
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }
