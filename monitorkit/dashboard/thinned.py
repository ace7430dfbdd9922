"""A result without most of its findings, which are nearly all of it, and are not parsed."""

from __future__ import annotations

from collections.abc import Callable

# As `results.encode` lays them out: a finding a line, and nothing else indented so far.
_FINDING = b'        {"measure": "'


def thinned(document: bytes, keep: Callable[[bytes], bool]) -> bytes:
    """The same JSON with some of its findings.

    Args:
        document: of a result. In any other layout than `results.encode`'s nothing is left out.
        keep: asked for each finding's line; true keeps it.
    """
    lines: list[bytes] = []
    for line in document.split(b"\n"):
        if not line.startswith(_FINDING):
            if lines and line.startswith(b"      ]"):  # the end of the findings
                lines[-1] = lines[-1].removesuffix(b",")
            lines.append(line)
        elif keep(line):
            lines.append(line if line.endswith(b",") else line + b",")
    return b"\n".join(lines)


def begins(line: bytes, measure: str) -> bool:
    """Whether a finding's line is of a measure; its name must need no escape in JSON."""
    return line.startswith(b'%b%b", ' % (_FINDING, measure.encode()))
