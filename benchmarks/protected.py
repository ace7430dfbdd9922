"""The protections that `benchmarks.protections` takes out, as `protections.toml` lists them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("protections.toml")
SLOW = ("tests/faults/", "tests/end_to_end/")
"""Tests below start services in processes of their own: they come last."""


@dataclass(frozen=True, slots=True)
class Change:
    """One place in which a protection is taken out.

    Attributes:
        file: relative to the project.
        old: the text, which is there once.
        new: what stands there without the protection.
    """

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Make the change below a folder.

        Raises:
            ValueError: the text is not there once, or what comes out is no Python.
        """
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times:\n{self.old}")
        changed = text.replace(self.old, self.new)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise ValueError(f"{self.file} is no Python any more: {error}") from error
        path.write_text(changed, encoding="utf-8")

    def place(self, root: Path) -> str:
        """The class and function around it, or the name that it gives a value."""
        text = (root / self.file).read_text(encoding="utf-8")
        start = text.index(self.old)
        first = start + len(self.old) - len(self.old.lstrip())
        line = text.count("\n", 0, first) + 1
        names = [node.name for node in _around(ast.parse(text), line)]
        return ".".join(names) or self.old.split()[0].strip('"')


@dataclass(frozen=True, slots=True)
class Protection:
    """Something without which a promise does not hold.

    Attributes:
        name: of it.
        row: of the issue's table that it belongs to.
        does: what it does, for the table.
        changes: that take it out.
        tests: pytest's ids, each of which must fail without it.
        cause: further text by which a test fails than an assertion or a timeout.
    """

    name: str
    row: str
    does: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    cause: str

    def place(self, root: Path) -> str:
        """Where it is."""
        return "; ".join(
            dict.fromkeys(f"`{each.file}`, `{each.place(root)}`" for each in self.changes)
        )


def listed(path: Path = LIST) -> list[Protection]:
    """All of them, in the order of the file.

    Raises:
        ValueError: two have one name.
    """
    found = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["protection"]:
        changes = [entry, *({"file": entry["file"], **also} for also in entry.get("also", ()))]
        found.append(
            Protection(
                entry["name"],
                entry["row"],
                entry["does"],
                tuple(Change(each["file"], each["old"], each["new"]) for each in changes),
                tuple(entry["tests"]),
                entry.get("cause", ""),
            )
        )
    names = [each.name for each in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"there twice: {', '.join(sorted(twice))}")
    return found


def is_slow(test: str) -> bool:
    """Whether a test takes long."""
    return test.startswith(SLOW)


_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _around(node: ast.AST, line: int) -> Iterator[_Named]:
    """The classes and functions around a line, from the outermost one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Named):
            if child.lineno <= line <= (child.end_lineno or line):
                yield child
                yield from _around(child, line)
        else:
            yield from _around(child, line)
