"""A trial: one measured run in a process of its own, so that no run disturbs another."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
UNMEASURED = ("imports", "warm-up")
"""Parts that are no work: what comes once in the life of a process."""


class TrialFailed(Exception):  # noqa: N818 - says what happened
    """A run ended without an answer; says why, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a part of a run took; see `meter.Meter`."""

    seconds: float
    cpu: float
    bytes_read: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What one run took.

    Attributes:
        parts: by name, in order.
        memory: bytes, the peak of the whole run, all its processes together.
        lasted: seconds from the start of the process to the end of its last part.
        facts: what else it found.
    """

    parts: Mapping[str, Part]
    memory: int
    lasted: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the work, reading included."""
        return sum(part.seconds for part in self._work())

    @property
    def cpu(self) -> float:
        """Processor seconds of the work, reading included."""
        return sum(part.cpu for part in self._work())

    @property
    def bytes_read(self) -> int:
        """By the work."""
        return sum(part.bytes_read for part in self._work())

    def _work(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name not in UNMEASURED]


def run(command: Sequence[str], answer: Path, seconds: float = 3600.0) -> Trial:
    """Run a command that measures itself.

    Args:
        command: gets the path of its answer as the last argument.
        answer: where it writes what it found.
        seconds: it may take.

    Raises:
        TrialFailed: it gave no answer.
    """
    answer.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
        "NML_DISABLE_USAGE_LOGGING": "1",
        "WHYLOGS_NO_ANALYTICS": "True",
    }
    started = time.time()
    try:
        done = subprocess.run(
            [*command, str(answer)],
            cwd=answer.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise TrialFailed(f"it took longer than {seconds:g} s") from None
    if done.returncode or not answer.exists():
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise TrialFailed(
            f"exit code {done.returncode}: {said[-1] if said else 'nothing was said'}"
        )
    document = json.loads(answer.read_text(encoding="utf-8"))
    return Trial(
        {name: Part(**part) for name, part in document["parts"].items()},
        document["memory"],
        document["ended"] - started,
        document["facts"],
    )
