"""What the disk says after a fault: which rows are in the log, and whether results are whole."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Never

ID_LENGTH = 36


class LogEvidence:
    """The ids in all segments of a log, read from the bytes and not by monitorkit's own reader.

    Closed segments are read once; that none of them changes afterwards is part of what is checked.

    Args:
        folder: of the segments.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closed: dict[str, tuple[tuple[int, int], list[str]]] = {}

    def ids(self) -> Counter[str]:
        """How often each id stands in a whole line.

        Raises:
            AssertionError: a closed segment changed or is gone, or a line is not whole.
        """
        found: Counter[str] = Counter()
        names = {path.name for path in self.folder.glob("predictions*.csv")}
        gone = set(self._closed) - names
        if gone:
            raise AssertionError(f"closed segments are gone: {sorted(gone)}")
        for name in sorted(names):
            found.update(self._ids_of(self.folder / name))
        return found

    def check(self, answered: Iterable[str]) -> Counter[str]:
        """Every answered id is in the log, and no id is there twice.

        Raises:
            AssertionError: naming the first few that are missing or doubled.
        """
        counts = self.ids()
        twice = [one for one, count in counts.items() if count > 1]
        lost = [one for one in answered if one not in counts]
        if twice or lost:
            raise AssertionError(
                f"{len(lost)} answered rows are lost: {lost[:5]}; "
                f"{len(twice)} are there twice: {twice[:5]}"
            )
        return counts

    def _ids_of(self, path: Path) -> list[str]:
        status = path.stat()
        stamp = status.st_size, status.st_mtime_ns
        if path.name in self._closed:
            known, ids = self._closed[path.name]
            if known != stamp:
                raise AssertionError(f"the closed segment {path.name} changed: {known}, {stamp}")
            return ids
        ids = whole_rows(path.read_bytes(), path.name)
        if path.name.count("-"):  # predictions-<time>.csv; predictions.csv still takes rows
            self._closed[path.name] = stamp, ids
        return ids


def whole_rows(content: bytes, name: str) -> list[str]:
    """The ids of the lines that have an end.

    Raises:
        AssertionError: one of them is not a whole row.
    """
    header, _, body = content.partition(b"\n")
    fields = len(next(csv.reader([header.decode()])))
    lines = body.decode().split("\n")[:-1]
    rows = list(csv.reader(lines))
    for number, row in enumerate(rows):
        if len(row) != fields or len(row[0]) != ID_LENGTH:
            raise AssertionError(f"line {number + 2} of {name} is no whole row: {lines[number]!r}")
    return [row[0] for row in rows]


def results(folder: Path) -> list[dict[str, Any]]:
    """All committed results, oldest first.

    Raises:
        ValueError: one is not strict JSON.
    """
    return [
        json.loads(path.read_text(encoding="utf-8"), parse_constant=_not_json)
        for path in sorted(folder.glob("[!.]*.json"))
    ]


def _not_json(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")
