"""What `verification` finds: segments, chains, and whatever is not as it was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "sealed", "archived", "unsealed", "changed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written.

    Attributes:
        file: the path.
        line: in it, from 1 (the header); None: the whole file.
        problem: what is wrong.
        remedy: what to do.
    """

    file: str
    line: int | None
    problem: str
    remedy: str


@dataclass(slots=True)
class Verified:
    """A segment that was looked at.

    Attributes:
        file: its path, or URL in an archive.
        state: `open`: it takes rows, so only their form was checked; `sealed`: what it held when
            it was closed; `archived`: the same, in an archive; `unsealed`: no chain speaks of it;
            `changed`: not what was closed.
        rows: in it.
        bad: lines that are no rows.
        torn: 1 when its last line has no end: a row that was never answered.
        backwards: rows that are more than a second older than the one before them, as after the
            clock was set back, and in imports. (A batch is written when it is ready, after single
            rows that came meanwhile.)
        bytes: of the file.
    """

    file: str
    state: State
    rows: int = 0
    bad: int = 0
    torn: int = 0
    backwards: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """A chain.

    Attributes:
        file: its path.
        lines: in it.
        sha256: of the last one, which stands for all: note it elsewhere.
    """

    file: str
    lines: int
    sha256: str


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        segments: in the order of reading.
        chains: of the folder.
        findings: empty when all is sound.
        pruned: segments that retention deleted, and the rows that were in them.
        set_aside: files with torn lines or foreign content that a start put aside, and the lines
            in each.
    """

    segments: list[Verified] = field(default_factory=list)
    chains: list[Head] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    pruned: int = 0
    pruned_rows: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """In all segments."""
        return sum(each.rows for each in self.segments)
