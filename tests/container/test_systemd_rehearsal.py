"""deploy/monitorkit.service under a systemd of its own, in namespaces; `tox -e container` runs it.

All that the unit forbids is forbidden by the real thing: calls, capabilities, folders, namespaces,
writable code. Only limits of memory and tasks are not, as there may be no cgroup controllers here.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from image_recipe import PROJECT
from image_root import Root

SYSTEMD = "/lib/systemd/systemd"
NODES = {
    "null": "1 3",
    "zero": "1 5",
    "full": "1 7",
    "random": "1 8",
    "urandom": "1 9",
    "tty": "5 0",
}
VARIABLES = ["container=other", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="systemd is not here"),
]


class Machine:
    """A systemd as process 1 of its own namespaces, on the image's files.

    Args:
        folder: for its root.
        image: has the virtualenv and the user.
    """

    def __init__(self, folder: Path, image: Root) -> None:
        assert image.python is not None
        upper, merged = folder / "upper", folder / "merged"
        for path in (merged, folder / "work"):
            path.mkdir()
        subprocess.run(["cp", "-al", image.upper, upper], check=True)
        for source, target in (
            ("deploy/monitorkit.service", "etc/systemd/system/monitorkit.service"),
            ("config/monitorkit.toml", "etc/monitorkit/monitorkit.toml"),
        ):
            (upper / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / source, upper / target)
        groups = next(
            line.split()[1]
            for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
            if line.split()[2] == "cgroup2"
        )
        self._group = Path(groups, f"monitorkit-test-{os.getpid()}")
        self._group.mkdir()
        layers = f"lowerdir=/,upperdir={upper},workdir={folder / 'work'}"
        todo = [
            ["mount", "-t", "overlay", "overlay", "-o", layers, str(merged)],
            ["mount", "-t", "proc", "proc", f"{merged}/proc"],
            ["mount", "--bind", "/sys", f"{merged}/sys"],
            ["mount", "-t", "cgroup2", "cgroup2", f"{merged}/sys/fs/cgroup"],
            *(
                ["mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", f"{merged}/{name}"]
                for name, mode in {"dev": 755, "run": 755, "tmp": 1777, "root": 700}.items()
            ),
            *(
                ["mknod", "-m", "666", f"{merged}/dev/{name}", "c", *numbers.split()]
                for name, numbers in NODES.items()
            ),
            ["mkdir", "-m", "1777", f"{merged}/dev/shm"],  # noqa: S108 - of its own
            ["mkdir", f"{merged}/dev/pts"],
            ["mount", "-t", "devpts", "-o", "ptmxmode=0666", "devpts", f"{merged}/dev/pts"],
            ["ln", "-s", "pts/ptmx", f"{merged}/dev/ptmx"],
            ["mount", "--bind", str(image.python), f"{merged}/usr/local"],
            ["ip", "link", "set", "lo", "up"],
            ["cd", str(merged)],
            ["pivot_root", ".", "mnt"],  # no chroot, in which user namespaces are forbidden
        ]
        start = ["env", "-i", *VARIABLES, SYSTEMD, "--unit=monitorkit.service"]
        last = f"umount -l /mnt && exec {shlex.join(start)}"
        script = " && ".join(shlex.join(line) for line in todo)
        script += f" && exec chroot . sh -c {shlex.quote(last)}"
        spaces = [
            "--mount",
            "--propagation=private",
            "--pid",
            "--cgroup",
            "--uts",
            "--ipc",
            "--net",
        ]
        joined = f'echo $$ > {self._group}/cgroup.procs && exec "$@"'
        command = ["unshare", *spaces, "--fork", "--kill-child", "sh", "-c", script]
        self._out = folder / "out"
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                ["sh", "-c", joined, "sh", *command], stdout=out, stderr=out
            )

    def run(self, *words: str, user: str | None = None) -> str:
        """A command on it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + 60
        while not (pids := children.read_text(encoding="ascii").split()):
            assert self._process.poll() is None, self._out.read_text(errors="replace")
            assert time.monotonic() < deadline, self._out.read_text(errors="replace")
            time.sleep(0.1)
        spaces = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--root"]
        who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        there = ["env", "-i", "HOME=/tmp", *VARIABLES, *words]
        done = subprocess.run(
            ["nsenter", f"--target={pids[0]}", *spaces, "--wd=/var/lib", *who, *there],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        return done.stdout + done.stderr

    def events(self) -> list[dict[str, Any]]:
        """What the service has told the journal."""
        text = self.run("journalctl", "--unit=monitorkit", "--output=cat", "--no-pager")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def end(self) -> None:
        """Everything in it, and its groups."""
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._group.exists():
            try:
                for path in sorted(self._group.glob("**/"), reverse=True):
                    path.rmdir()
            except OSError:  # the last processes are just ending
                time.sleep(0.2)


@pytest.fixture
def machine(tmp_path: Path, image: Root) -> Iterator[Machine]:
    made = Machine(tmp_path, image)
    try:
        yield made
    finally:
        made.end()


def test_systemd_starts_it_and_it_does_all_it_does_within_what_it_may(machine: Machine) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(2)
        if any(event["event"] == "listening" for event in machine.events()):
            break
    events = machine.events()
    assert {event["event"] for event in events if event["level"] != "info"} == set()
    assert events[-1]["event"] == "listening"
    main = machine.run("systemctl", "show", "--property=MainPID", "--value", "monitorkit").strip()
    held = machine.run("grep", "-E", "^(Cap(Eff|Bnd)|NoNewPrivs|Seccomp):", f"/proc/{main}/status")
    assert [line.split()[1].lstrip("0") for line in held.splitlines()] == ["", "", "1", "2"]
    command = ["/opt/monitorkit/bin/monitorkit", "simulate", "--rows", "250"]
    assert '"answered": 250' in machine.run(*command, user="10001")
    url = "http://127.0.0.1:8000/monitoring/run"
    cycle = json.loads(machine.run("curl", "--silent", "--request", "POST", url))
    statuses = {name: entry["status"] for name, entry in _monitors(cycle).items()}
    assert len(statuses) == 9
    assert set(statuses.values()) <= {"ok", "drift"}
    machine.run("systemctl", "stop", "monitorkit")
    ended = machine.run("systemctl", "show", "--property=Result,ExecMainStatus", "monitorkit")
    assert set(ended.split()) == {"Result=success", "ExecMainStatus=0"}
    assert machine.events()[-1]["event"] == "stopped"
    assert {event["event"] for event in machine.events() if event["level"] != "info"} == set()


def _monitors(cycle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in cycle["result"]["monitors"]}
