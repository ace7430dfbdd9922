"""The examples for Prometheus and Grafana, tried on the real tools and on a real service.

Takes out: a metric that is renamed while a panel or a rule still asks for the old name.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_process import QUICK, Service, configure, until

from benchmarks.traffic import APPLICANT

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "prometheus"
DASHBOARD = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = (EXAMPLES / "alert-rules.yml").read_text(encoding="utf-8")
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="there is no prometheus"
)


def promtool(*arguments: str, given: str | None = None) -> str:
    """What it says when all is well."""
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=EXAMPLES,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    said: str = done.stdout
    assert done.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It has answered, refused and judged."""
    quiet = QUICK.replace('interval = "500ms"', 'interval = "1h"')
    assert quiet != QUICK
    service = Service(configure(tmp_path_factory.mktemp("watched"), quiet))
    try:
        with service.client() as client:
            for age in range(20, 30):
                client.post("/predict", json=APPLICANT | {"age": age}).raise_for_status()
            rows = [APPLICANT | {"age": age} for age in range(30, 60)]
            client.post("/predict/batch", json=rows).raise_for_status()
            assert client.post("/predict", json=APPLICANT | {"age": "old"}).status_code == 422
            assert client.post("/monitoring/run").json()["status"] == "completed"
        yield service
    finally:
        service.kill()


@pytest.fixture(scope="module")
def metrics(service: Service) -> str:
    with service.client() as client:
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return str(answer.text)


class Prometheus:
    """A server that scrapes one service every second, by the configuration of the examples."""

    def __init__(self, folder: Path, target: str) -> None:
        written = (EXAMPLES / "prometheus.yml").read_text(encoding="utf-8")
        assert "127.0.0.1:8000" in written
        assert "15s" in written
        shutil.copy(EXAMPLES / "alert-rules.yml", folder)
        (folder / "prometheus.yml").write_text(
            written.replace("127.0.0.1:8000", target).replace("15s", "1s")
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.output = (folder / "prometheus.log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            cwd=folder,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        self.client = httpx.Client(base_url=f"http://{address}", timeout=10, trust_env=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        assert answer["data"]["resultType"] == "vector"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str) -> float:
        (series,) = self.query(expression)
        return float(series["value"][1])

    def scrapes(self) -> bool:
        """Whether it has scraped often enough for rates."""
        assert self.process.poll() is None
        try:
            ready = self.client.get("/-/ready").is_success
        except httpx.TransportError:  # it has not begun to listen
            return False
        return ready and bool(self.query('count_over_time(up{job="monitorkit"}[1m]) >= 4'))

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(timeout=20)
        self.output.close()


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), service.url.removeprefix("http://"))
    try:
        until(server.scrapes)
        yield server
    finally:
        server.close()


# -- the files


@needs_promtool
def test_the_rules_and_the_configuration_are_what_prometheus_takes() -> None:
    rules = promtool("check", "rules", "alert-rules.yml")
    assert f"SUCCESS: {RULES.count('- alert:')} rules found" in rules
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_alerts_go_off_when_they_should_and_not_otherwise() -> None:
    promtool("test", "rules", "alert-tests.yml")
    tried = set(re.findall(r"alertname: (\w+)", (EXAMPLES / "alert-tests.yml").read_text()))
    assert len(tried) >= 7
    assert tried <= set(re.findall(r"- alert: (\w+)", RULES))


def test_the_dashboard_can_be_imported_beside_any_prometheus() -> None:
    (first, *others) = DASHBOARD["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    sources = [each["datasource"] for each in (*others, *PANELS)]
    sources += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert {json.dumps(source) for source in sources} == {
        json.dumps({"type": "prometheus", "uid": "${datasource}"})
    }
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells


# -- what the service says


@needs_promtool
def test_promtool_finds_nothing_to_say_of_our_metrics(metrics: str) -> None:
    assert promtool("check", "metrics", given=metrics) == ""


def test_every_metric_that_is_asked_for_is_there(metrics: str) -> None:
    families = list(text_string_to_metric_families(metrics))
    there = {sample.name for family in families for sample in family.samples}
    # Without a sink there is no sample of its gauge.
    there |= {family.name for family in families if family.type == "gauge"}
    variables = [each["query"]["query"] for each in DASHBOARD["templating"]["list"][1:]]
    shown = [target["expr"] for panel in PANELS for target in panel["targets"]]
    rules = [line for line in RULES.splitlines() if not re.match(r" *(summary|description):", line)]
    names = set(re.findall(r"\b(monitorkit_\w+)", "\n".join([*variables, *shown, *rules])))
    assert len(names) > 25
    assert names - there == set()
    # And what there is can be seen, but for the parts of histograms.
    parts = ("_created", "_bucket", "_sum", "_count")
    assert {name for name in there - names if not name.endswith(parts)} == set()


# -- a real server


@needs_prometheus
def test_a_real_prometheus_scrapes_a_real_service(prometheus: Prometheus, service: Service) -> None:
    assert prometheus.value('up{job="monitorkit"}') == 1
    assert prometheus.value("monitorkit_ready") == 1
    assert prometheus.value("monitorkit_predictions_logged_total") == 40
    assert prometheus.value('monitorkit_rows_total{outcome="answered"}') == 40
    assert (
        prometheus.value('monitorkit_http_requests_total{endpoint="/predict",status="200"}') == 10
    )
    assert prometheus.value('monitorkit_http_requests_total{endpoint="/predict",status="422"}') == 1
    assert prometheus.value('monitorkit_cycles_total{outcome="completed"}') == 1
    with service.client() as client:
        (result,) = client.get("/monitoring/results").json()["results"]
    assert prometheus.value("monitorkit_drift_detected") == result["dataset_drift_detected"]
    assert prometheus.value("sum(monitorkit_feature_drifted)") == result["num_drifted_features"]
    assert prometheus.value("count(monitorkit_feature_drifted)") == result["num_features_evaluated"]
    shown = prometheus.query("monitorkit_monitor_status == 1")
    assert {(s["metric"]["monitor"], s["metric"]["status"]) for s in shown} == set(
        result["monitors"].items()
    )
    assert {s["metric"]["version"] for s in prometheus.query("monitorkit_model_info")} == {"1"}


@needs_prometheus
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_panel_shows_something(prometheus: Prometheus, expression: str) -> None:
    for variable, value in (
        ("$job", "monitorkit"),
        ("$instance", ".*"),
        ("$__rate_interval", "30s"),
    ):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    assert prometheus.query(expression)


@needs_prometheus
def test_the_server_judges_by_the_rules(prometheus: Prometheus) -> None:
    def judged() -> list[dict[str, Any]]:
        groups = prometheus.client.get("/api/v1/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = until(judged)
    assert len(rules) == RULES.count("- alert:")
    assert {rule["health"] for rule in rules} == {"ok"}
    drift = prometheus.value("monitorkit_drift_detected")
    expected = {"MonitorkitDrift"} if drift else set()
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == expected
