"""What the chains of a folder say of each segment, and the lines that cannot be as they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from monitorkit.prediction_log import chain, imported, names
from monitorkit.prediction_log.chain import Record
from monitorkit.prediction_log.verified import Head

Known = dict[str, dict[chain.Event, Record]]  # by the segment's stem


@dataclass(slots=True)
class Chains:
    """What the chains of a folder say.

    Attributes:
        known: of each segment, since it was closed last.
        earlier: what they said of it before, when it was closed more than once.
        heads: how far each goes.
        wrong: lines that are not as they were written, and their chains.
    """

    known: Known = field(default_factory=dict)
    earlier: dict[str, list[Record]] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    wrong: list[tuple[Path, int, str]] = field(default_factory=list)

    def note(self, record: Record) -> None:
        """Take what a line says of a segment."""
        if record.event == "closed":  # again, by an import of what was pruned, or after a kill
            before = self.known.pop(record.stem, {})
            if "pruned" in before or record.origin == "imported" or record.cut:
                self.earlier.pop(record.stem, None)
            elif "closed" in before:
                self.earlier.setdefault(record.stem, []).append(before["closed"])
        self.known.setdefault(record.stem, {})[record.event] = record

    def contradiction(self, record: Record) -> str | None:
        """Why a line cannot follow what was said of its segment; None: it can.

        A segment is closed once. But a process may be killed between the line and the name: the
        next one goes on with the file, or an import makes it anew. And what was pruned may be
        imported.
        """
        before = self.known.get(record.stem, {})
        closed = before.get("closed")
        if record.event != "closed" or closed is None or record.cut:
            return None
        if record.origin == "imported" and ("pruned" in before or closed.origin == "imported"):
            return None
        same = record.bytes == closed.bytes and record.sha256 == closed.sha256
        if same or (record.bytes > closed.bytes and "compressed" not in before):
            return None
        return f"it says otherwise of {record.segment} than an earlier line: somebody added it"


def read_chains(folder: Path) -> Chains:
    """What the chains of a folder say."""
    found = Chains()
    for path in chain.chains(folder):
        number, sha256 = 0, chain.FIRST
        for link in chain.read(path):
            number, sha256, problem = link.number, link.sha256, link.problem
            if link.record is not None:
                foreign = _foreign(path, link.record)
                problem = problem or foreign or found.contradiction(link.record)
                if foreign is None:
                    found.note(link.record)
            if problem is not None:
                found.wrong.append((path, number, problem))
        found.heads.append(Head(str(path), number, sha256))
    return found


def _foreign(path: Path, record: Record) -> str | None:
    """Why a line cannot be of this chain; None: it can."""
    name = names.parse(record.segment)
    if name is not None and chain.path_of(path.parent, name) == path:
        if record.origin == "imported" and name.writer != imported.STEM:
            return f"it says that {record.segment} was imported, which no import writes"
        return None
    return f"it speaks of {record.segment}, which is no segment of this chain's writer"
