"""What a process and its children use, part by part; measured from inside, with Python alone.

Peers import it too, in virtual environments that have nothing but the peer. Linux only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROCESSES = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Used:
    """What processes have used up to a moment.

    Attributes:
        cpu: seconds, to a hundredth.
        bytes_read: by every read of a file, from the page cache or not (`rchar`).
        memory: bytes, the sum of the largest resident sizes that each has had (`VmHWM`).
    """

    cpu: float
    bytes_read: int
    memory: int


class Meter:
    """Measures parts of a program, each of them together with what child processes do meanwhile.

    Args:
        answer: the file for what was found.
    """

    def __init__(self, answer: Path) -> None:
        self._answer = answer
        self._parts: dict[str, dict[str, float]] = {}
        self._ended = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside; a part of a name that was there replaces it."""
        before = used()
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self._ended = time.time()
        after = used()
        self._parts[name] = {
            "seconds": seconds,
            "cpu": after.cpu - before.cpu,
            "bytes_read": after.bytes_read - before.bytes_read,
        }

    def write(self, facts: Mapping[str, Any]) -> None:
        """Write everything as JSON, the peak of the memory included; while children are alive."""
        document = {
            "parts": self._parts,
            "memory": used().memory,
            "ended": self._ended,
            "facts": facts,
        }
        self._answer.write_text(json.dumps(document), encoding="utf-8")


def used() -> Used:
    """What this process and its living descendants have used."""
    cpu, bytes_read, memory = 0.0, 0, 0
    for number in family(os.getpid()):
        try:
            folder = _PROCESSES / str(number)
            # The name in parentheses may hold anything.
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            status = _fields(folder / "status")
            read = _fields(folder / "io")["rchar"]
        except (OSError, KeyError):  # it has just ended
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS
        memory += int(status.get("VmHWM", "0").split()[0]) * 1024
        bytes_read += int(read)
    return Used(cpu, bytes_read, memory)


def family(root: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for folder in _PROCESSES.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8")
        except OSError:  # it has just ended
            continue
        parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found = [root]
    for number in found:  # it grows meanwhile
        found += parents.get(number, [])
    return found


def _fields(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {key: value.strip() for key, _, value in lines}
