"""What an option costs a request: `python -m benchmarks.options`, ten minutes.

Starts the service with one option after the other, drives it with 32 connections, and compares the
processor time of a request with that of the defaults in the same round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from benchmarks import servers
from benchmarks.load import Measured, find_wrk, run
from benchmarks.machine import facts, say
from benchmarks.report import SOME, Results
from benchmarks.servers import MODELS
from benchmarks.serving import Place

RESULT = Path(__file__).with_name("results") / "options.md"
DEFAULTS = "the defaults"
HEAD = """# What options cost

Made by `python -m benchmarks.options`: processor time of a request at 32 connections, over all
processes of the service. The difference is from the defaults of the same round; medians
(lowest-highest) over the rounds. Differences of some microseconds are the machine's.
"""
TABLE = """
| | requests/s | CPU us | more than the defaults, us |
|---|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to run the service.

    Attributes:
        name: in words.
        environment: of the service.
        headers: of each request.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.options", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    find_wrk()
    found: dict[str, list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="monitorkit-options-") as name, collector() as url:
        place = Place(Path(name), given.seconds, Results())
        servers.prepare(place.folder / given.model, given.model)
        for number in range(given.rounds):
            for option in options(url):
                measured = driven(place, given.model, option)
                found[option.name].append(measured)
                say(f"{number}, {option.name}: {measured.cpu:.1f} us")
    lines = [HEAD, *(f"- {fact}" for fact in facts())]
    lines.append(f"- {given.model}, {given.rounds} rounds of {given.seconds:g} s")
    text = "\n".join([*lines, TABLE, *table(found)]) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def options(collector_url: str) -> list[Option]:
    """The defaults and what differs from them."""
    key, others = "a key that is used", [f"another key {number}" for number in range(10)]
    authorization = (f"Authorization: Bearer {key}",)
    traced = {"MONITORKIT_TELEMETRY__TRACES": collector_url}
    sampled = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    return [
        Option(DEFAULTS),
        Option("an id from the client (`X-Request-ID`)", headers=("X-Request-ID: of-the-client",)),
        Option("`access_log`", {"MONITORKIT_SERVING__ACCESS_LOG": "true"}),
        Option("a key", _entries([key]), authorization),
        Option("a key, and ten others before it", _entries([*others, key]), authorization),
        Option('`durability = "fsync"`', {"MONITORKIT_LOG__DURABILITY": "fsync"}),
        Option("traces of 1 %", traced | sampled),
        Option("traces of every request", traced),
    ]


def _entries(keys: list[str]) -> dict[str, str]:
    entries = [
        {
            "name": f"key-{number}",
            "scopes": ["predict"],
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
        }
        for number, key in enumerate(keys)
    ]
    return {"MONITORKIT_SERVING__KEYS": json.dumps(entries)}


def driven(place: Place, model: str, option: Option) -> Measured:
    """The service with an option, under one load."""
    folder = place.folder / model
    service = servers.monitorkit(folder)
    service = replace(service, environment={**service.environment, **option.environment})
    bodies = place.bodies(service, model)
    with servers.started(service, place.folder / "server.log") as running:
        time.sleep(service.settle)
        url = running.address + service.path
        for seconds in (1.0, place.seconds):  # the first one warms up
            measured = run(
                *(url, bodies, SOME, running.pid),
                seconds=seconds,
                drain=1,
                headers=option.headers,
            )
    servers.forget(folder)
    if measured.wrong:
        raise RuntimeError(f"{option.name}: {measured.wrong} requests failed")
    return measured


@contextmanager
def collector() -> Iterator[str]:
    """What takes spans over OTLP/HTTP and forgets them; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces"
        server.shutdown()


def table(found: Mapping[str, list[Measured]]) -> list[str]:
    """Rows of the table."""
    rows: list[str] = []
    for name, runs in found.items():
        speed = statistics.median(each.per_second for each in runs)
        cpu = statistics.median(each.cpu for each in runs)
        more = [each.cpu - plain.cpu for each, plain in zip(runs, found[DEFAULTS], strict=True)]
        spread = f"{statistics.median(more):+.1f} ({min(more):+.1f}-{max(more):+.1f})"
        rows.append(f"| {name} | {speed:,.0f} | {cpu:.1f} | {spread if any(more) else ''} |")
    return rows


if __name__ == "__main__":
    main()
