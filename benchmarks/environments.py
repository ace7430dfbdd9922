"""Virtual environments of the peers, made when they are needed and kept for the next time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).with_name(".environments")


def make(target: Path, requirements: Sequence[str]) -> Path | str:
    """A virtual environment with some packages; the reason, when they do not install.

    Args:
        target: its folder; made again when it is for other packages.
        requirements: as pip takes them.
    """
    mark, wanted = target / "installed", "\n".join(requirements)
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return target
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(target)],
        [str(target / "bin" / "pip"), "install", "--quiet", *requirements],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
    mark.write_text(wanted, encoding="utf-8")
    return target
