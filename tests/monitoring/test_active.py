"""Whose code runs is in a file at every moment, for whoever finds the process dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from monitorkit.monitoring.active import ACTIVE, active, say_nobody, telling

_KILLED = """
import os, sys
from pathlib import Path
from monitorkit.monitoring.active import telling
with telling(Path(sys.argv[1])) as say:
    say(["guilty"])
    os._exit(9)
"""


def test_whoever_looks_finds_the_last_word(tmp_path: Path) -> None:
    with telling(tmp_path / "new") as say:
        for names in (["a-monitor", "another"], ["b"], [], ["c"]):
            say(names)
            assert active(tmp_path / "new") == tuple(names)
    assert active(tmp_path / "new") == ()


def test_the_first_word_may_be_said_at_once(tmp_path: Path) -> None:
    with telling(tmp_path, "a-monitor"):
        assert active(tmp_path) == ("a-monitor",)
    assert active(tmp_path) == ()


def test_a_longer_word_in_between_leaves_nothing_behind(tmp_path: Path) -> None:
    with telling(tmp_path) as outer:
        outer(["a"])
        with telling(tmp_path) as inner:
            inner(["a-monitor-with-a-long-name"])
        assert active(tmp_path) == ()
        outer(["b"])
        assert active(tmp_path) == ("b",)


def test_who_was_killed_is_known_until_somebody_begins_anew(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert active(tmp_path) == ("guilty",)
    say_nobody(tmp_path)
    assert active(tmp_path) == ()


def test_where_nothing_can_be_written_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / ACTIVE).mkdir()
    with telling(tmp_path) as say:
        say(["a"])
    assert active(tmp_path) == ()
