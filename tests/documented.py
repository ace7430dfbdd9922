"""Commands as pages show them: taken out of the fences, run on a terminal, and what they print."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("sh", "console", "json", "python", "text", "toml", "yaml")
"""Fences say what they hold. `sh` is commands; `console` is `$ ` commands and what they print."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a page, and the output below it; None where the page shows none."""

    command: str
    output: str | None


def fences(page: str) -> list[tuple[str, str]]:
    """Language and text of each block."""
    return [(match[1], match[2]) for match in _FENCE.finditer(page)]


def commands(page: str) -> list[Shown]:
    """Every command of a page, in order."""
    found: list[Shown] = []
    for language, text in fences(page):
        if language == "sh":
            found += [Shown(command, None) for command in _whole(text.splitlines())]
        elif language == "console":
            found += _prompted(text)
    return found


def _prompted(text: str) -> Iterator[Shown]:
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert parts[0] == "", f"output before a command: {parts[0]}"
    for part in parts[1:]:
        lines = part.splitlines()
        command = next(_whole(lines))
        yield Shown(command, "\n".join(lines[command.count("\n") + 1 :]))


def _whole(lines: list[str]) -> Iterator[str]:
    """Commands that may go over several lines, by their quotes and backslashes."""
    command = ""
    for line in lines:
        command = f"{command}\n{line}" if command else line
        with suppress(ValueError):  # an open quote
            if shlex.split(command, comments=True) and not line.endswith("\\"):
                yield command
                command = ""
    assert not command.strip(), f"not a whole command: {command}"


class Terminal:
    """A command on a terminal of its own, as a person starts it."""

    def __init__(self, command: str, folder: Path, env: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (50, 200))
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._bytes = b""

    @property
    def text(self) -> str:
        """What it has printed, as a person reads it."""
        return plain(self._bytes.decode(errors="replace"))

    def read(self, until: str | None, seconds: float) -> str:
        """Read to a text, or to the end.

        Raises:
            AssertionError: it does not come in time, or the command ends before.
        """
        deadline = time.monotonic() + seconds
        while until is None or until not in self.text:
            assert time.monotonic() < deadline, f"no {until or 'end'} in {seconds} s:\n{self.text}"
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                more = os.read(self._master, 2**16)
            except OSError:  # Linux: the other side is closed
                more = b""
            if not more:
                assert until is None, f"it ended without {until}:\n{self.text}"
                break
            self._bytes += more
        return self.text

    def drain(self) -> None:
        """Take what it has printed since, so that it is not held up."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                self._bytes += os.read(self._master, 2**16)
            except OSError:
                return

    def end(self, seconds: float = 40) -> int:
        """Ctrl-C, and the exit code; whatever is left of it is killed."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.read(None, seconds)
            return self.process.wait(timeout=seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            os.close(self._master)


def run(shown: Shown, folder: Path, env: Mapping[str, str], seconds: float = 180) -> str:
    """Run a command to its end, which is to be a success; returns what it printed.

    Raises:
        AssertionError: another exit code, or not what the page shows.
    """
    terminal = Terminal(shown.command, folder, env)
    try:
        text = terminal.read(None, seconds)
        code = terminal.process.wait(timeout=10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(terminal.process.pid, signal.SIGKILL)
    assert code == 0, f"exit code {code} of {shown.command}:\n{text}"
    if shown.output is not None:
        compare(shown.output, text)
    return text


def compare(shown: str, printed: str) -> None:
    """What a page shows beside what was printed: `...` stands for anything, a line of it for lines.

    Raises:
        AssertionError: with both.
    """
    expected, found = normalised(shown), normalised(printed)
    pattern = "".join(map(_pattern, expected))
    told = "\n".join(["shown:", *expected, "", "printed:", *found])
    assert re.fullmatch(pattern, "".join(f"{line}\n" for line in found)), told


def _pattern(line: str) -> str:
    return r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"


def plain(text: str) -> str:
    """Without colours and cursor movements; of what was overwritten the last."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07", "", text).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))


VARYING = (
    (r"\d{8}T\d{12}Z-[0-9a-f]{8}", "RUN"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+00:00)?", "TIME"),
    (r"\d{8}T\d{6}\.\d{6}Z", "TIME"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"(127\.0\.0\.1|localhost):\d+", "HOST"),
    # Of as many rows as the window that shows a drift first happens to have: whole, or not.
    (r"\bmedian from \S+ to \S+", "MEDIANS"),
    (r"-?\b\d+\.\d+(e[+-]?\d+)?", "N"),
)
"""Ids, times, ports, medians and fractions; other whole numbers are compared."""


def normalised(text: str) -> list[str]:
    """Lines without what differs from run to run, and without alignment; none is empty."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line]
