"""A plugin that misbehaves is named and left out; the others and /predict do not notice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_process import QUICK, Service, configure, run_command

from benchmarks.evidence import LogEvidence, results
from benchmarks.traffic import Traffic

pytestmark = pytest.mark.slow

Start = Callable[..., Service]
PLUGIN = '''
"""What somebody's plugin file may do: raise, hang, eat memory, exit, lie, print."""

import os
import sys
import time
from dataclasses import dataclass

from monitorkit import Finding, Judgement, Monitor, Options, Sink, hookimpl


class BadOptions(Options):
    how: str = "raise"
    at: str = "judge"


@dataclass(frozen=True)
class Rows:
    rows: int


def misbehave(how):
    if how == "raise":
        raise ValueError("no good")
    if how == "hang":
        time.sleep(600)
    if how == "memory":
        held = [bytearray(64 * 2**20) for _ in range(4096)]
        del held
    if how == "exit":
        os._exit(3)
    if how == "leave":
        sys.exit("bye")
    if how == "print":
        print("{not json")


class Bad(Monitor[BadOptions, Rows]):
    options_type = BadOptions

    def summarise(self, chunk):
        if self.options.at == "summarise":
            misbehave(self.options.how)
        return Rows(len(chunk))

    def merge(self, left, right):
        return Rows(left.rows + right.rows)

    def judge(self, timeline, previous):
        if self.options.at == "judge":
            misbehave(self.options.how)
        if self.options.how == "nan":
            return Judgement([Finding("x", float("nan"))])
        if self.options.how == "type":
            return {"x": 1}
        return Judgement([Finding("rows", float(timeline.all().rows))])


class BadSink(Sink[BadOptions]):
    options_type = BadOptions

    def deliver(self, result, document):
        misbehave(self.options.how)


class GoodSink(Sink[BadOptions]):
    options_type = BadOptions

    def deliver(self, result, document):
        with open("delivered.txt", "a", encoding="utf-8") as file:
            file.write(result.run_id + "\\n")


@hookimpl
def monitorkit_monitors():
    return {"bad": Bad}


@hookimpl
def monitorkit_sinks():
    return {"bad_sink": BadSink, "good_sink": GoodSink}
'''
SLOW = {"MONITORKIT_MONITORING__INTERVAL": "1h"}  # cycles come when the test asks for one

# kind of misbehaviour: status and reason of its entry
MONITORS = {
    ("raise", "judge"): ("failed", "no good"),
    ("raise", "summarise"): ("failed", "no good"),
    ("hang", "judge"): ("timed_out", "longer than 1 s"),
    ("memory", "judge"): ("failed", "MemoryError"),
    ("exit", "judge"): ("failed", "exit code 3"),
    ("exit", "summarise"): ("failed", "exit code 3"),
    ("leave", "judge"): ("failed", "bye"),
    ("nan", "judge"): ("failed", "not JSON-safe"),
    ("type", "judge"): ("failed", "not a Judgement"),
    ("print", "judge"): ("ok", None),
}
SINKS = {
    "raise": "no good",
    "hang": "longer than 1 s",
    "memory": "MemoryError",
    "exit": "exit code 3",
    "leave": "bye",
}


def limit(how: str) -> str:
    """Short for what hangs; what a busy machine may need to import for the others."""
    return "1s" if how == "hang" else "60s"


def config(monitors: list[tuple[str, str]], sinks: list[str]) -> str:
    """The quick configuration, with one misbehaving plugin before every good one."""
    text: str = QUICK.replace("sinks = []\n", "")
    text = text.replace(
        "[monitoring]\n",
        '[monitoring]\nplugin_files = ["misbehaving.py"]\nworker_memory = "2GiB"\n',
    )
    bad = "".join(
        f'[[monitors]]\nname = "bad-{how}-{at}"\nuse = "bad"\ntimeout = "{limit(how)}"\n'
        f'options = {{ how = "{how}", at = "{at}" }}\n'
        for how, at in monitors
    )
    text = text.replace("[[monitors]]", bad + "[[monitors]]", 1)
    for how in sinks:
        text += f'[[sinks]]\nname = "bad-{how}"\nuse = "bad_sink"\ntimeout = "{limit(how)}"\n'
        text += f'options = {{ how = "{how}" }}\n'
    return text + '[[sinks]]\nname = "good"\nuse = "good_sink"\n'


def replayed(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What the monitors of the quick configuration alone find at the moment of a result."""
    (folder / "quick.toml").write_text(QUICK)
    moment = result["started_at"]
    arguments = ("--config", "quick.toml", "--from", moment, "--to", moment, "--output", "again")
    run_command(folder, "replay", *arguments)
    (again,) = results(folder / "again")
    return {entry["name"]: entry["findings"] for entry in again["monitors"]}


def test_plugins_that_misbehave_harm_themselves_alone(folder: Path, start: Start) -> None:
    """Needs the `except` of `_Cycle.judge`, the timeout and the memory limit of `Worker`,
    `ProcessEngine.absorb`, which leaves out who ended the worker, and `Delivery._one`.
    """
    (folder / "misbehaving.py").write_text(PLUGIN)
    configure(folder, config(list(MONITORS), list(SINKS)))
    service = start(folder, env=SLOW)
    slowest = 0.0
    with service.client() as client, Traffic(threads=1, seed=3, pause=0.005) as traffic:
        traffic.to(service.url)
        while len(traffic.answered) < 200:
            time.sleep(0.05)
        begun = len(traffic.answered)
        answer = client.post("/monitoring/run", timeout=300)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        assert len(traffic.answered) > begun + 100  # all the while
        service.wait_for("result_delivered", seconds=300)
        for how, says in SINKS.items():
            reasons = [
                event["reason"]
                for event in service.events
                if event["event"] == "sink_failed" and event["sink"] == f"bad-{how}"
            ]
            assert len(reasons) == 1
            assert says in reasons[0], how
        slowest = traffic.slowest
        health = client.get("/health").json()
    assert health["status"] == "ok"
    assert (traffic.cut, set(traffic.statuses)) == (0, {200})
    assert slowest < 10
    entries = {entry["name"]: entry for entry in result["monitors"]}
    for (how, at), (status, reason) in MONITORS.items():
        entry = entries[f"bad-{how}-{at}"]
        assert entry["status"] == status, entry
        assert reason is None or reason in entry["error"], entry
    assert {entries[name]["error"] for name in ("feature-drift", "ks", "psi", "proxy")} == {None}
    assert (folder / "delivered.txt").read_text().split() == [result["run_id"]]
    told = [event for event in service.events if "{not json" in str(event)]
    assert len(told) == 1  # what is printed becomes events, and every line is still JSON
    assert service.stop() == 0

    # The same moment over the same rows without them: the others found what they would have found.
    others = replayed(folder, result)
    for name in ("feature-drift", "ks", "psi", "proxy"):
        assert others[name] == entries[name]["findings"], name
    LogEvidence(folder / "monitoring/predictions").check(traffic.answered)
