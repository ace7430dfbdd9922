"""Dockerfile and compose.yaml: what they copy is there, what they start exists, nothing is lax.

`tox -e container` (test_container_rehearsal.py) carries them out.
"""

from __future__ import annotations

import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from click.testing import CliRunner
from image_recipe import PROJECT, Health, Settings, Step, apply, compose, health_of, seconds, stages

from monitorkit import config
from monitorkit.cli import main
from monitorkit.serving import hosts

STAGES = stages((PROJECT / "Dockerfile").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = compose()["services"]
OURS = "monitorkit:0.1.0"
VOLUMES = ("/srv/monitorkit/monitoring", "/srv/mlflow", "/prometheus")


def image() -> Settings:
    settings = Settings()
    for step in STAGES[-1].steps:
        apply(settings, step)
    return settings


def copies() -> Iterator[tuple[Step, str]]:
    for stage in STAGES:
        for step in stage.steps:
            if step.name == "COPY" and "from" not in step.flags:
                yield from ((step, source) for source in step.words[:-1])


def runs() -> list[str]:
    return [
        command.strip()
        for stage in STAGES
        for step in stage.steps
        if step.name == "RUN"
        for command in step.text.split("&&")
    ]


# -- the image


def test_what_is_copied_is_there_and_nothing_else_is_sent_to_the_builder() -> None:
    sources = {source for _, source in copies()}
    assert [source for source in sources if not (PROJECT / source).exists()] == []
    lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources


def test_a_stage_copies_from_one_before_it() -> None:
    names = [stage.name for stage in STAGES]
    for position, stage in enumerate(STAGES):
        for step in stage.steps:
            if "from" in step.flags:
                assert names.index(step.flags["from"]) < position


def test_the_package_is_copied_whole() -> None:
    built = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    mapped = built["tool"]["setuptools"]["package-dir"]
    roots = {name.split(".")[0] for name in built["tool"]["setuptools"]["packages"]}
    assert {mapped.get(root, root) for root in roots} <= {source for _, source in copies()}


def test_everything_of_others_is_installed_by_its_hash_and_as_a_wheel() -> None:
    installs = [shlex.split(run) for run in runs() if " install " in run and "pip" in run]
    assert len(installs) == 3
    for words in installs:
        if "--no-index" not in words:
            assert "--require-hashes" in words
            assert words[words.index("--only-binary") + 1] == ":all:"
    for run in runs():
        if " wheel " in run:
            assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(shlex.split(run))


def test_nothing_is_downloaded_in_another_way() -> None:
    words = {word for run in runs() for word in re.findall(r"[\w./-]+", run)}
    assert words & {"curl", "wget", "apt-get", "git", "ADD"} == set()


def test_it_does_not_run_as_root_and_its_folders_are_writable_to_it() -> None:
    settings = image()
    assert settings.user == "10001:10001"
    (made,) = [run for run in runs() if run.startswith("install ") and "-o 10001" in run]
    assert shlex.split(made)[-2:] == ["/srv/monitorkit/monitoring", "/srv/mlflow"]


def test_its_python_is_one_that_the_package_and_the_tests_know() -> None:
    (base,) = {stage.base for stage in STAGES}
    found = re.fullmatch(r"python:(\d+)\.(\d+)-slim", base)
    assert found is not None
    built = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert built["project"]["requires-python"] == ">=3.11,<3.14"
    assert (3, 11) <= (int(found[1]), int(found[2])) <= (3, 13)


def test_its_variables_are_keys_of_the_configuration_that_comes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = image().env | SERVICES["credit-risk-api"]["environment"]
    for name, value in environment.items():
        if name.startswith("MONITORKIT_"):
            monkeypatch.setenv(name, value)
    settings = config.load(PROJECT / "config" / "monitorkit.toml")
    assert settings.serving.host == "0.0.0.0"  # noqa: S104 - in a container
    assert settings.logging.format == "json"
    folder = PurePosixPath(image().folder)
    assert str(folder / settings.storage.root) in VOLUMES
    # It takes the name that others in the composition use, and no page of another site can.
    taken = hosts.of(settings.serving)
    assert taken is not None
    for name, take in {
        "credit-risk-api:8000": True,
        "127.0.0.1:8000": True,
        "evil.example": False,
    }.items():
        assert taken.take({"headers": [(b"host", name.encode())]}) is take


# -- what is started


def test_the_image_starts_a_command_that_there_is() -> None:
    settings = image()
    assert settings.entrypoint == ["monitorkit"]
    shown = CliRunner().invoke(main, [*settings.command, "--help"])
    assert shown.exit_code == 0
    assert "Serve and monitor" in shown.output


@pytest.mark.slow
def test_the_mlflow_server_has_every_option() -> None:
    service = SERVICES["mlflow-server"]
    words = [*service["entrypoint"], *service["command"]]
    assert words[:2] == ["mlflow", "server"]
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *words[:2], "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    options = [word.partition("=")[0] for word in words[2:]]
    assert len(options) > 5
    assert [name for name in options if not re.search(rf"{name}\b", shown)] == []


# -- the composition


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert "privileged" not in service
    assert "cap_add" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert SERVICES[name]["ports"]
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_or_a_volume(name: str) -> None:
    volumes = compose()["volumes"]
    for mount in SERVICES[name]["volumes"]:
        source, target, *mode = mount.split(":")
        if source.startswith("."):
            assert (PROJECT / source).exists()
            assert mode == ["ro"]
        else:
            assert source in volumes
            assert target in VOLUMES


def test_each_waits_for_the_health_of_those_before_it() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert waits == {
        "mlflow-server": {},
        "credit-risk-api": {"mlflow-server": {"condition": "service_healthy"}},
        "prometheus": {"credit-risk-api": {"condition": "service_healthy"}},
    }


def test_the_parts_call_each_other_by_their_names_and_ports() -> None:
    asked = SERVICES["credit-risk-api"]["environment"]["MLFLOW_TRACKING_URI"]
    assert asked == "http://mlflow-server:5000"
    options = dict(
        word[2:].split("=", 1) for word in SERVICES["mlflow-server"]["command"] if "=" in word
    )
    assert "mlflow-server:5000" in options["allowed-hosts"].split(",")
    assert options["port"] == "5000"
    scraped = (PROJECT / "deploy" / "prometheus.yml").read_text(encoding="utf-8")
    assert '"credit-risk-api:8000"' in scraped


def test_a_stop_leaves_time_for_the_answers_under_way() -> None:
    grace = config.load(PROJECT / "config" / "monitorkit.toml").serving.shutdown_grace
    given = seconds(SERVICES["credit-risk-api"]["stop_grace_period"])
    assert given >= grace.total_seconds() + 10


def test_prometheus_takes_its_configuration() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not here (Debian: apt-get install prometheus)")
    file = PROJECT / "deploy" / "prometheus.yml"
    checked = subprocess.run(
        ["promtool", "check", "config", file],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_docker_takes_the_composition() -> None:
    plugin = shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], capture_output=True, timeout=30, check=False
    )
    if not plugin or plugin.returncode != 0:
        pytest.skip("docker compose is not here")
    checked = subprocess.run(
        ["docker", "compose", "config", "--quiet"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


# -- health checks


def checks() -> list[Health]:
    found = image().health
    assert found is not None
    mine = [health_of(service) for service in SERVICES.values() if service["image"] == OURS]
    return [found, *mine]


def probed(command: list[str], port: int) -> subprocess.CompletedProcess[str]:
    """A health check of the containers, at another port."""
    *start, script, address = command
    assert start == ["python", "-I"]
    assert script == "/opt/monitorkit/probe.py"
    return subprocess.run(
        [
            sys.executable,
            "-I",
            PROJECT / "deploy" / "probe.py",
            re.sub(r":\d+/", f":{port}/", address),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"http_proxy": "http://127.0.0.1:1"},
    )


@pytest.mark.slow
def test_the_health_check_is_that_of_a_real_service(
    folder: Path, start: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    service = start(folder)
    port = int(service.url.rpartition(":")[2])
    command = checks()[0].command
    healthy = probed(command, port)
    assert healthy.returncode == 0, healthy.stdout
    log = folder / "monitoring" / "predictions"
    log.rename(log.with_name("elsewhere"))
    log.touch()
    with service.client() as client:
        assert client.post("/predict", json=applicant).status_code == 503
    not_ready = probed(command, port)
    assert not_ready.returncode == 1
    assert "503" in not_ready.stdout
    log.unlink()
    log.with_name("elsewhere").rename(log)
    assert probed(command, port).returncode == 0
    assert service.stop() == 0
    gone = probed(command, port)
    assert gone.returncode == 1
    assert "refused" in gone.stdout


def test_the_health_check_asks_the_path_and_takes_no_error_for_an_answer() -> None:
    paths: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200 if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        codes = [probed(check.command, server.server_port).returncode for check in checks()]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert paths == ["/ready", "/health", "/ready"]
    assert codes == [1, 0, 1]


def test_the_image_checks_itself_as_the_composition_checks_it() -> None:
    image_, _, composed = checks()
    assert composed == image_


def test_the_version_of_the_image_is_that_of_the_package() -> None:
    built = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    named = {service["image"] for service in SERVICES.values() if "build" in service}
    assert named == {f"monitorkit:{built['project']['version']}"} == {OURS}
    assert json.dumps(compose()["name"]) == '"monitorkit"'
