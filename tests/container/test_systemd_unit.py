"""deploy/monitorkit.service: systemd reads it, and finds little to object to."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitorkit import config
from monitorkit.cli import main
from monitorkit.settings import Serving

UNIT = Path(__file__).parents[2] / "deploy" / "monitorkit.service"
THRESHOLD = 15
"""Tenths of systemd's exposure level, from 0 (none) to 100; a unit that says nothing has 96."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if re.match(r"\w+=", line):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as a machine has it, with a command that is there."""
    path = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    path.write_text(text.replace("/opt/monitorkit/bin/monitorkit", "/bin/true"))
    assert path.read_text() != text
    return path


@needs_systemd
def test_systemd_reads_every_line(installed: Path) -> None:
    def verified(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = verified(installed)
    assert (done.returncode, done.stderr) == (0, "")
    # It would say so.
    installed.write_text(installed.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in verified(installed).stderr


@needs_systemd
def test_what_a_service_that_was_broken_into_may_do_is_little(installed: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}",
         "--json=short", installed],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    open_ = {entry["json_field"] for entry in json.loads(done.stdout) if not entry["set"]}
    # What it cannot do without: the network, its own files.
    assert open_ <= {
        "DeviceAllow",
        "IPAddressDeny",
        "PrivateNetwork",
        "RootDirectoryOrRootImage",
        "RestrictAddressFamilies_AF_INET_INET6",
        "RestrictAddressFamilies_AF_UNIX",
        "SystemCallFilter_resources",
        "UMask",
    }


def test_it_starts_a_command_that_there_is() -> None:
    (line,) = settings()["ExecStart"]
    _, *arguments = shlex.split(line)
    assert arguments == ["run", "--config", "/etc/monitorkit/monitorkit.toml"]
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0


def test_its_variables_are_keys_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [word for line in settings()["Environment"] for word in shlex.split(line)]
    for word in given:
        name, _, value = word.partition("=")
        if name.startswith("MONITORKIT_"):
            monkeypatch.setenv(name, value)
    assert config.load().logging.format == "json"


def test_a_stop_leaves_time_for_the_answers_under_way_and_reaches_the_workers_last() -> None:
    grace = Serving().shutdown_grace.total_seconds()
    (stop,) = settings()["TimeoutStopSec"]
    assert float(stop.removesuffix("s")) >= grace + 10
    assert settings()["KillMode"] == ["mixed"]
    assert settings()["Restart"] == ["on-failure"]
    # A worker that is killed for its memory is replaced, and does not end the service.
    assert settings()["OOMPolicy"] == ["continue"]
