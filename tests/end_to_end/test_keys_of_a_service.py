"""API keys from `new-key` to a running service; no key is in anything that a process prints."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitorkit.environment import KEY_VARIABLE

pytestmark = pytest.mark.slow


def new_key(folder: Path, name: str, scopes: str) -> tuple[str, str]:
    """What a person gets: the key and the lines to paste."""
    done = subprocess.run(
        [sys.executable, "-m", "monitorkit", "new-key", "--name", name, "--scopes", scopes],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    key = re.search(r"^mk_\S+$", done.stdout, re.MULTILINE)
    assert key is not None
    return key[0], done.stdout[done.stdout.index("[[serving.keys]]") :]


def test_keys_are_made_pasted_used_and_never_printed(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    both, entry = new_key(folder, "simulation", "predict,read")
    with (folder / "config/monitorkit.toml").open("a") as file:
        file.write("\n" + entry)
        file.write('[[serving.keys]]\nname = "night"\nenvironment = "NIGHT_KEY"\n')
        file.write('scopes = ["operate"]\n')
    (refused,) = command(folder, "run", "--port", "0", code=1)
    assert "environment variable NIGHT_KEY: is not set" in refused["reason"]
    night, _ = new_key(folder, "night", "operate")
    service = start(folder, env={"NIGHT_KEY": night, "MONITORKIT_SERVING__ACCESS_LOG": "true"})
    with service.client() as client:
        assert client.get("/health").status_code == 200
        assert client.post("/predict", json=applicant).status_code == 401
        client.headers["Authorization"] = f"Bearer {night}"
        assert client.post("/predict", json=applicant).status_code == 403
        assert client.post("/monitoring/run").json()["status"] == "skipped"
    simulate = ("simulate", "--rows", "20", "--url", service.url)
    (without,) = command(folder, *simulate, code=1)
    assert without["error"] == "KeyRefused"
    assert "Set MONITORKIT_KEY" in without["reason"]
    (wrong,) = command(folder, *simulate, code=1, env={KEY_VARIABLE: night})
    assert "needs the scope `read`, and the key 'night' has `operate`" in wrong["reason"]
    sent = command(folder, *simulate, env={KEY_VARIABLE: both})
    assert sent[-1]["answered"] == 20
    assert service.stop() == 0
    printed = subprocess.run(
        [sys.executable, "-m", "monitorkit", "config"],
        cwd=folder,
        env={"NIGHT_KEY": night},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 'environment = "NIGHT_KEY"' in printed.stdout
    everything = "".join(service.lines) + printed.stdout + repr([refused, without, wrong, sent])
    assert both not in everything
    assert night not in everything
    named = {event["key"] for event in service.events if event["event"] == "request"}
    assert named == {None, "night", "simulation"}
