"""Where commands look for the service, and whom they trust there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from monitorkit import client
from monitorkit.cli import main
from monitorkit.cli.commands import REFUSED
from monitorkit.config import Config
from monitorkit.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104 - where a service listens
        ("::", "http://[::1]:8000"),
        ("example.test", "http://example.test:8000"),
    ],
)
def test_the_service_is_sought_where_the_configuration_says(host: str, address: str) -> None:
    assert client.address(Config(serving={"host": host, "port": 8000})) == address


def test_a_key_goes_along_when_the_environment_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONITORKIT_KEY", raising=False)
    assert client.authorization() == {}
    monkeypatch.setenv("MONITORKIT_KEY", " mk_1\n")
    assert client.authorization() == {"Authorization": "Bearer mk_1"}


@pytest.mark.parametrize(
    "value",
    ["Shown only now\n\nmk_hunter2", "mk_\nhunter2", "mk_ hunter2", "mk_hünter2", "mk\x7fhunter2"],
)
def test_what_can_be_no_key_is_an_error_that_does_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MONITORKIT_KEY", value)
    with pytest.raises(ConfigError, match="environment variable MONITORKIT_KEY: ") as caught:
        client.options("http://127.0.0.1:1")
    assert "nter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "localhost:80", "ftp://example.test"])
def test_an_address_without_http_is_an_error_that_says_so(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--url: .* begins with http:// .* as http://[\w.:]+ do"):
        client.options(url)
    assert client.options("HTTP://127.0.0.1:8000")


@pytest.mark.parametrize("command", ["status", "simulate"])
def test_no_command_takes_such_an_address_for_a_service_that_does_not_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [command, "--url", "127.0.0.1:8000"])
    assert done.exit_code == REFUSED
    assert "begins with http:// or https://" in done.output
    assert "ot running" not in done.output


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.2:1/x", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("https://example.test", False),
        ("http://", False),
    ],
)
def test_no_proxy_stands_before_a_service_on_this_machine(url: str, here: bool) -> None:
    assert client.is_here(url) is here
