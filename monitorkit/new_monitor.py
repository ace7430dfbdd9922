"""Writes a new monitor: one file that works, and its test."""

from __future__ import annotations

import importlib.util
import json
import keyword
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from monitorkit import config, durable, plugin_manager
from monitorkit.errors import ConfigError, PluginError

LONGEST_NAME = 60

PLUGIN = '''"""The monitor `{name}`: drift when more rows lie below a limit than in the reference.

It works as it is. To make it yours, change the options, what `summarise` counts, and the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitorkit import Chunk, Finding, Judgement, Monitor, Options, Timeline, hookimpl


class {cls}Options(Options):
    """What `options = {{ ... }}` in TOML may hold; anything else is an error at start-up."""

    column: str
    limit: float
    rise: float = 0.01


@dataclass(frozen=True)
class {cls}Counts:
    """What is kept of some rows: numbers that add up, never the rows."""

    rows: int
    below: int


class {cls}(Monitor[{cls}Options, {cls}Counts]):
    """Finds the share of rows of `column` below `limit`."""

    options_type = {cls}Options

    def __init__(self, options: {cls}Options, reference: Chunk) -> None:
        super().__init__(options, reference)
        if options.column not in reference.columns:
            known = ", ".join(reference.columns)
            raise ValueError(f"there is no column {{options.column!r}}; there are: {{known}}")
        self.expected = self.summarise(reference)

    def summarise(self, chunk: Chunk) -> {cls}Counts:
        """Count the rows; comparisons with a missing value (NaN) are false."""
        values = chunk.features[:, chunk.columns.index(self.options.column)]
        return {cls}Counts(len(chunk), int((values < self.options.limit).sum()))

    def merge(self, left: {cls}Counts, right: {cls}Counts) -> {cls}Counts:
        """Add up."""
        return {cls}Counts(left.rows + right.rows, left.below + right.below)

    def judge(self, timeline: Timeline[{cls}Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift when the share is larger than the reference's by more than `rise`."""
        del previous
        counts = timeline.all()
        if counts is None or not counts.rows:
            return Judgement([])
        share = counts.below / counts.rows
        threshold = self.expected.below / max(self.expected.rows, 1) + self.options.rise
        return Judgement(
            [
                Finding(
                    "{name}",
                    share,
                    column=self.options.column,
                    statistic=f"share of rows below {{self.options.limit}}",
                    threshold=threshold,
                    drift=share > threshold,
                    detail={{"rows": counts.rows}},
                )
            ]
        )


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `{name}`."""
    return {{"{name}": {cls}}}
'''

TEST = '''"""The monitor `{name}`: the laws, and that it finds what it is for."""

from __future__ import annotations

from {name} import {cls}, {cls}Options

from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(1000, ("age", "income"), seed=1)
MONITOR = {cls}({cls}Options(column="age", limit=-1.0), REFERENCE)


def test_it_keeps_the_laws() -> None:
    check_monitor(MONITOR, make_chunk(300, ("age", "income"), seed=2))


def test_lower_values_are_drift() -> None:
    lower = make_chunk(1000, ("age", "income"), seed=3, shift=-0.5)
    (finding,) = judge_summaries(MONITOR, [MONITOR.summarise(lower)]).findings
    assert finding.drift


def test_the_same_values_are_not() -> None:
    (finding,) = judge_summaries(MONITOR, [MONITOR.summarise(REFERENCE)]).findings
    assert finding.drift is False
'''

ENTRY = """[[monitors]]
name = "{entry}"
use = "{name}"
options = {options}
"""
OPTIONS = '{ column = "age", limit = 21 }'


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a new monitor, its entry for the TOML file, and its options for check-plugin."""

    plugin: Path
    test: Path
    entry: str
    options: str


def write(name: str, folder: Path, add_to: Path | None = None) -> Written:
    """Write `name.py` and `test_name.py`, and maybe the entry.

    Args:
        name: the kind, and the module's name.
        folder: made when it is not there.
        add_to: a TOML file that gets the entry.

    Raises:
        PluginError: the name or the folder cannot be used, a file is there already, or cannot be
            written.
        ConfigError: the TOML file cannot take the entry; then nothing is written.
    """
    known = () if add_to is None else config.load(add_to).monitoring.plugin_files
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    _check_form(name)
    if (folder / "__init__.py").exists():
        problem = "it has an __init__.py, and from a package pytest could not run the test"
        raise PluginError(str(folder), f"{problem}; choose another --folder")
    for path in (plugin, test):
        if path.exists():
            raise PluginError(str(path), "it is there already; remove it, or choose another name")
    _check_free(name, [path for path in known if path != plugin])
    cls = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    entry = ENTRY.format(name=name, entry=name.replace("_", "-"), options=OPTIONS)
    changed = None if add_to is None else _with_entry(add_to, plugin, entry)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in ((plugin, PLUGIN), (test, TEST)):
            with path.open("x", encoding="utf-8") as file:
                file.write(template.format(name=name, cls=cls))
        if add_to is not None and changed is not None:
            durable.replace_file(add_to.resolve(), changed.encode(), for_the_same=True)
    except OSError as error:
        problem = f"it cannot be written: {error.strerror}. Choose another --folder"
        raise PluginError(str(error.filename or folder), problem) from error
    files = json.dumps([plugin.as_posix()], ensure_ascii=False)
    return Written(
        plugin,
        test,
        entry=f"[monitoring]\nplugin_files = {files}\n\n{entry}",
        options=f"{name} = {OPTIONS}",
    )


def _with_entry(path: Path, plugin: Path, entry: str) -> str:
    """The text of a TOML file with one monitor more; all else stays as it was written.

    Raises:
        ConfigError: it cannot be read, is wrong already, or would be with the entry.
    """
    before = config.load(path)
    written = _read(path)
    text = written.replace("\r\n", "\n")
    if "monitors" not in tomllib.loads(text):
        problem = "has no [[monitors]], so the default ones run, and one entry would replace them"
        raise ConfigError(str(path), (f"{problem}; copy yours from `monitorkit config` first",))
    name = tomllib.loads(entry)["monitors"][0]["name"]
    if name in {each.name for each in before.monitors}:
        raise ConfigError(str(path), (f"has a monitor {name!r} already",))
    document = tomlkit.parse(text)
    monitoring: Any = document.setdefault("monitoring", tomlkit.table())
    files = monitoring.setdefault("plugin_files", tomlkit.array())
    if plugin.as_posix() not in files:
        files.append(plugin.as_posix())
    changed = f"{tomlkit.dumps(document).rstrip()}\n\n{entry}"
    try:
        tomllib.loads(changed)
    except tomllib.TOMLDecodeError as error:
        problem = "has its monitors in one array, `monitors = [...]`; write each as [[monitors]]"
        raise ConfigError(str(path), (problem,)) from error
    return changed.replace("\n", "\r\n") if "\r\n" in written else changed


def _read(path: Path) -> str:
    """A text as it is, with its own ends of lines."""
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


_IMPORTED = frozenset({"finding", "judgement"})
"""Names whose class would be called as one that the file imports."""


def _is_module(name: str) -> bool:
    """Whether `import` finds something of that name; any folder, empty or not, is no module."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _check_form(name: str) -> None:
    """Refuse a name that can be no module's.

    Raises:
        PluginError: it cannot be used.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        near = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:LONGEST_NAME]
        hint = f", such as {near}" if near and near != name else ""
        problem = f"use up to {LONGEST_NAME} small letters, digits and `_`{hint}"
        raise PluginError(repr(name), problem)


def _check_free(name: str, plugin_files: Iterable[Path]) -> None:
    """Refuse a name that a module has, or a plugin, those of the files among them.

    Raises:
        PluginError: it cannot be used, or one of the files cannot be loaded.
    """
    taken = None
    if name in _IMPORTED:
        taken = f"its class would be called {name.capitalize()}, as one of monitorkit's"
    elif keyword.iskeyword(name) or _is_module(name):
        taken = "Python has a module or a word of that name"
    if taken is not None:
        raise PluginError(repr(name), f"{taken}; choose another, such as {name}_monitor")
    for kind in plugin_manager.kinds(plugin_manager.build(plugin_files)):
        if kind.kind == name:
            raise PluginError(
                repr(name), f"{kind.source} has that kind; choose another, such as my_{name}"
            )
