"""How far each sink is, and where what it took can be looked at: one small file."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from monitorkit import durable, logs

SCHEMA_VERSION = 1
FILE = "delivery.json"

MOST_LINKS = 1000
"""Of each sink; the oldest are forgotten."""

log = logs.get(__name__)

Links = Sequence[tuple[str, str | None]]
"""Ascending: the first result that has a link, and the link, which the results after it share."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is known.

    Attributes:
        positions: by sink, the last result that it took.
        links: by sink.
    """

    positions: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Links] = field(default_factory=dict)

    def link(self, sink: str, run_id: str) -> str | None:
        """Where a result can be looked at; None: the sink has not said, or has not taken it."""
        known = self.links.get(sink, ())
        before = bisect_right(known, run_id, key=lambda pair: pair[0])
        taken = run_id <= self.positions.get(sink, "")
        return known[before - 1][1] if before and taken else None

    def with_result(self, sink: str, run_id: str, link: str | None) -> Delivered:
        """The same after a sink took one more result."""
        # Results that are delivered again, from the first on, have their links again.
        known = [pair for pair in self.links.get(sink, ()) if pair[0] < run_id]
        if (known[-1][1] if known else None) != link:
            known.append((run_id, link))
        return Delivered(
            {**self.positions, sink: run_id}, {**self.links, sink: known[-MOST_LINKS:]}
        )

    def without(self, sink: str) -> Delivered:
        """The same with nothing known of how far a sink is; its links go as it takes them again."""
        return replace(
            self, positions={name: at for name, at in self.positions.items() if name != sink}
        )


def read(folder: Path, *, quietly: bool = False) -> Delivered:
    """What the file in a folder says; nothing when it is not there, or is damaged.

    Without it everything is delivered again, which sinks have to bear.

    Args:
        folder: with the file.
        quietly: a damaged one is no event: who delivers tells of it.
    """
    path = folder / FILE
    tell = log.debug if quietly else log.warning
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Delivered()
    except (OSError, ValueError, RecursionError) as error:
        tell("delivery_positions_ignored", file=str(path), reason=str(error))
        return Delivered()
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            return Delivered()
        positions = {str(sink): str(at) for sink, at in document["sinks"].items()}
        links = {
            str(sink): [(str(first), None if link is None else str(link)) for first, link in pairs]
            for sink, pairs in document.get("links", {}).items()
        }
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        tell("delivery_positions_ignored", file=str(path), reason=repr(error))
        return Delivered()
    return Delivered(positions, links)


def write(folder: Path, delivered: Delivered) -> None:
    """Replace the file in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": SCHEMA_VERSION,
        "sinks": delivered.positions,
        "links": delivered.links,
    }
    durable.replace_file(folder / FILE, json.dumps(document).encode())
