"""What segments are called: by their writer's instance and, once closed, by their first row's time.

`predictions.csv` and `predictions-<time>[-n].csv` of the writer that has no instance,
`predictions-<instance>.csv` and `predictions-<instance>-<time>[-n].csv` of the others. A closed one
that was compressed ends in `.parquet`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TIME = r"\d{8}T\d{6}\.\d{6}Z"
_INSTANCE = rf"(?!{_TIME}[-.])[A-Za-z0-9][A-Za-z0-9_.]{{0,31}}"
COMPRESSED = ".parquet"
CHAIN = ".chain"
_SEGMENT = re.compile(
    rf"(predictions(?:-({_INSTANCE}))?(?:-({_TIME})(?:-(\d+))?)?)(\.csv|{re.escape(COMPRESSED)})"
)


@dataclass(frozen=True, slots=True)
class Name:
    """A segment's name, taken apart.

    Attributes:
        text: the whole of it.
        stem: without the ending.
        instance: of its writer, "" for the one that has none.
        time: of its first row; "" while it takes rows.
        number: tells apart those of one time.
    """

    text: str
    stem: str
    instance: str
    time: str
    number: int
    compressed: bool

    @property
    def writer(self) -> str:
        """What the names of all files of its writer begin with."""
        return stem_of(self.instance)

    @property
    def closed(self) -> bool:
        """Whether it takes no more rows."""
        return bool(self.time)

    @property
    def order(self) -> tuple[bool, str, str, int]:
        """Of reading: closed ones, oldest first, then those that take rows, by instance."""
        return not self.closed, self.time, self.instance, self.number


def stem_of(instance: str) -> str:
    """What the names of an instance's files begin with."""
    return f"predictions-{instance}" if instance else "predictions"


def parse(text: str) -> Name | None:
    """Take a file's name apart; None when it is no segment's."""
    match = _SEGMENT.fullmatch(text)
    if match is None or (match[5] == COMPRESSED and not match[3]):
        return None
    stem, instance, at, number, ending = match.groups("")
    return Name(text, stem, instance, at, int(number or 0), ending == COMPRESSED)


def in_order(texts: Iterable[str]) -> list[Name]:
    """The segments among some files in the order of reading, each once."""
    found = [name for text in texts if (name := parse(text)) is not None]
    plain = {name.stem for name in found if not name.compressed}
    # One that is in both forms was about to be compressed, or is now.
    once = (name for name in found if not (name.compressed and name.stem in plain))
    return sorted(once, key=lambda name: name.order)


def segments(folder: Path) -> list[Name]:
    """A folder's segments in the order of reading; none when there is no folder."""
    try:
        return in_order(os.listdir(folder))  # noqa: PTH208 - a Path for each takes longer
    except FileNotFoundError:
        return []


class Writers:
    """The names of one writer's files.

    Args:
        instance: of the writer; "": it has none.

    Raises:
        ValueError: the instance could not be told from the rest of a name.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._stem = stem_of(instance)
        self.current = f"{self._stem}.csv"
        self.lock = f"{self._stem}.lock"
        self.chain = f"{self._stem}{CHAIN}"
        name = parse(self.current)
        if name is None or name.closed or name.instance != instance:
            raise ValueError(f"{instance!r} is no name of an instance")

    def closed(self, folder: Path) -> list[Name]:
        """Its closed segments in a folder, oldest first, compressed or not."""
        mine = (name for name in segments(folder) if name.instance == self._instance)
        return [name for name in mine if name.closed]

    def next_closed(self, timestamp: str | None, folder: Path) -> str:
        """A free name for a segment that is being closed; names sort as segments were closed.

        Args:
            timestamp: of its first row; None: now.
            folder: where the other segments are.
        """
        if timestamp is None:
            timestamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        key = (timestamp.replace("-", "").replace(":", ""), 0)
        if closed := self.closed(folder):  # the clock went back, or stood still
            newest = (closed[-1].time, closed[-1].number)
            if newest >= key:
                key = (newest[0], newest[1] + 1)
        return f"{self._stem}-{key[0]}{f'-{key[1]}' if key[1] else ''}.csv"
