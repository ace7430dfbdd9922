"""A real S3 server of this machine, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Where the one server of all tests is."""
    with _server() as address:
        yield address


@pytest.fixture
def s3(
    s3_address: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A folder in a bucket; whoever reads it finds the server as AWS's own tools would."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_address}.items():
        monkeypatch.setenv(name, value)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket = "b" + format(abs(hash(request.node.name)), "x")
    system.mkdir(bucket)
    yield f"s3://{bucket}/some/predictions"
    fsspec.filesystem("s3").clear_instance_cache()


@contextmanager
def _server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **CREDENTIALS},
    )
    try:
        yield _answering(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


def _answering(url: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "moto's server ended"
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - ours
                return url
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError("moto's server does not answer")
