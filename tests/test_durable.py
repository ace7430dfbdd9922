"""Files that survive a power failure: what is synced, and when, as strace sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from monitorkit import durable

REPLACE = """
import sys
from pathlib import Path
from monitorkit import durable
durable.replace_file(Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows what is synced")
def test_a_file_is_synced_before_it_has_its_name_and_its_name_after_that(tmp_path: Path) -> None:
    folder, trace = tmp_path / "folder", tmp_path / "trace"
    folder.mkdir()
    (folder / "result.json").write_bytes(b"old")
    watched = ["strace", "-f", "-y", "-e", "trace=write,fsync,rename,renameat,renameat2"]
    command = [sys.executable, "-c", REPLACE, str(folder / "result.json")]
    done = subprocess.run(
        [*watched, "-o", str(trace), *command], capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        pytest.skip("strace may not trace here")
    seen = []
    for line in trace.read_text(errors="replace").splitlines():
        if str(folder) in line:
            call = line.split(None, 1)[1].partition("(")[0]
            what = "folder" if f"<{folder}>" in line else "file"
            seen.append(f"{call.rstrip('at2')} {what}")
    assert seen == ["write file", "fsync file", "rename file", "fsync folder"]
    assert (folder / "result.json").read_bytes() == b"new"


def test_trying_a_file_tells_what_writing_it_would_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file", tmp_path / "new"):
        durable.try_file(path)
    for path in (tmp_path / "folder", tmp_path / "file" / "new", tmp_path / "nowhere" / "new"):
        with pytest.raises(OSError, match=r"directory") as tried:
            durable.try_file(path)
        with pytest.raises(type(tried.value)):
            durable.replace_file(path, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
def test_a_pipe_gets_the_content_and_stays_one(tmp_path: Path) -> None:
    """As /dev/stdout may be one, and /dev/null is a device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    durable.try_file(pipe)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    thread.start()
    durable.replace_file(pipe, b"all of it")
    thread.join(timeout=10)
    assert got == [b"all of it"]
    assert pipe.is_fifo()
