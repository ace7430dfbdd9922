"""Root file systems as an engine would make them, for a machine that has none; Linux, as root.

A stage is an overlay over this machine's own system in a mount namespace, with Python in /usr/local
as in the image that it stands in for. What this machine has beyond a system (/root, /home, /tmp) is
hidden. RUN and services run in a chroot there, services without capabilities, on a read-only root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from image_recipe import PROJECT, Settings, Stage, Step, apply

HIDDEN = ("home", "mnt", "root", "work")
CAPABLE = ["setpriv", "--reuid={0}", "--regid={1}", "--clear-groups"]
BARE = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


@dataclass
class Root:
    """An image, or a container of it.

    Attributes:
        folder: holds what differs from this machine's system (`upper`).
        python: the prefix of the Python that the base image has; None: no image of Python.
        settings: how it is started.
    """

    folder: Path
    python: Path | None
    settings: Settings = field(default_factory=Settings)

    @property
    def upper(self) -> Path:
        return self.folder / "upper"

    def inside(self, path: str) -> Path:
        """Where a path of the image is, from outside; relative ones are below WORKDIR."""
        return self.upper / str(PurePosixPath(self.settings.folder) / path).lstrip("/")

    def command(
        self,
        words: Sequence[str],
        *,
        mounts: Sequence[tuple[Path, str, str]] = (),
        tmpfs: Mapping[str, str] | None = None,
        sealed: bool = False,
    ) -> list[str]:
        """A command that runs others in the image.

        Args:
            words: that run there.
            mounts: source, target, options (`ro`, `rw`).
            tmpfs: target and options.
            sealed: the root is read-only, and there are no capabilities.
        """
        for name in ("upper", "work", "merged"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for source, target, _ in mounts:
            self._make_place(target, source.is_dir())
        merged = self.folder / "merged"
        layers = f"lowerdir=/,upperdir={self.upper},workdir={self.folder / 'work'}"
        todo: list[list[str]] = [["mount", "-t", "overlay", "overlay", "-o", layers, str(merged)]]
        if sealed:
            todo.append(["mount", "-o", "remount,ro", str(merged)])
        todo += [
            ["mount", "-t", "tmpfs", "-o", "ro,mode=755", "tmpfs", f"{merged}/{name}"]
            for name in HIDDEN
            if Path("/", name).is_dir() and not (self.upper / name).exists()
        ]
        todo.append(["mount", "--rbind", "/dev", f"{merged}/dev"])
        todo.append(["mount", "--bind", "/proc", f"{merged}/proc"])
        todo.append(["mount", "--bind", "/sys", f"{merged}/sys"])
        if self.python is not None:
            bind = ["mount", "--bind", str(self.python), f"{merged}/usr/local"]
            todo += [bind, ["mount", "-o", "remount,ro,bind", f"{merged}/usr/local"]]
        for target, given in (tmpfs or {"/tmp": "mode=1777"}).items():  # noqa: S108 - the image's own
            options = f"{given},noexec,nosuid,nodev" if sealed else given
            todo.append(["mount", "-t", "tmpfs", "-o", options, "tmpfs", f"{merged}{target}"])
        for source, target, mode in mounts:
            todo.append(["mount", "--bind", str(source), f"{merged}{target}"])
            if mode == "ro":
                todo.append(["mount", "-o", "remount,ro,bind", f"{merged}{target}"])
        user = self.settings.user.split(":")
        privileges = [word.format(*user) for word in CAPABLE] + (BARE if sealed else [])
        environment = [f"{key}={value}" for key, value in self.settings.env.items()]
        there = ["env", f"--chdir={self.settings.folder}", "-i", *environment, *words]
        script = " && ".join(shlex.join(line) for line in todo)
        script += f" && exec {shlex.join(['chroot', str(merged), *privileges, *there])}"
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", script]

    def _make_place(self, target: str, is_folder: bool) -> None:
        """To mount something at, as engines make it, where neither image nor system has one."""
        place = self.inside(target)
        if place.exists() or Path(target).exists():
            return
        (place if is_folder else place.parent).mkdir(parents=True)
        if not is_folder:
            place.touch()


def build(stages: Sequence[Stage], folder: Path, python: Path) -> Root:
    """Carry a Dockerfile out, step by step; returns the image of its last stage."""
    built: dict[str, Root] = {}
    for stage in stages:
        root = Root(folder / stage.name, python)
        root.upper.mkdir(parents=True)
        root.settings.env["PATH"] = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        _run(root, Step("RUN", "ldconfig", {}))  # as the base image does, for Python's library
        for step in stage.steps:
            if step.name == "RUN":
                _run(root, step)
            elif step.name == "COPY":
                _copy(root, step, built)
            else:
                apply(root.settings, step)
                if step.name == "WORKDIR":
                    root.inside("").mkdir(parents=True, exist_ok=True)
        built[stage.name] = root
    return built[stages[-1].name]


def _run(root: Root, step: Step) -> None:
    given = {
        k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_CERT_", "REQUESTS_CA"))
    }
    given = {key: value for key, value in given.items() if key not in root.settings.env}
    command = root.command(["env", *(f"{k}={v}" for k, v in given.items()), "sh", "-ec", step.text])
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, f"RUN {step.text}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def _copy(root: Root, step: Step, built: Mapping[str, Root]) -> None:
    *sources, target = step.words
    other = built.get(step.flags.get("from", ""))
    into = root.inside(target)
    for name in sources:
        source = PROJECT / name if other is None else other.inside(name)
        if source.is_dir():
            into.mkdir(parents=True, exist_ok=True)
            _cp(f"{source}/.", into)
        else:
            inside = target.endswith("/") or into.is_dir()
            (into if inside else into.parent).mkdir(parents=True, exist_ok=True)
            _cp(str(source), into)
    if other is None:
        for junk in into.rglob("__pycache__"):
            shutil.rmtree(junk)


def _cp(source: str, target: Path) -> None:
    subprocess.run(["cp", "-a", "--no-preserve=ownership", source, target], check=True, timeout=600)


def volume(image: Root, folder: Path, target: str) -> Path:
    """A new named volume: begun with what the image has there, owner included."""
    before = image.inside(target)
    if before.exists():
        subprocess.run(["cp", "-a", before, folder], check=True, timeout=60)
    else:
        folder.mkdir()
        user = image.settings.user.split(":")
        os.chown(folder, int(user[0]), int(user[1]))
    return folder


def entered(process: subprocess.Popen[Any], root: Root, words: Sequence[str]) -> list[str]:
    """A command in a container that runs, as its health checks are."""
    user = root.settings.user.split(":")
    privileges = [word.format(*user) for word in CAPABLE] + BARE
    environment = [f"{key}={value}" for key, value in root.settings.env.items()]
    there = ["env", f"--chdir={root.settings.folder}", "-i", *environment, *words]
    return ["nsenter", f"--target={process.pid}", "--mount", "--net", "--root", *privileges, *there]
