"""/metrics is what Prometheus' own parser reads, and its counts are those of the service."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from monitorkit.serving.services import Services

Row = dict[str, Any]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(client: httpx.AsyncClient, accept: str = "") -> Samples:
    response = await client.get("/metrics", headers={"Accept": accept} if accept else {})
    assert response.status_code == 200
    is_open = response.headers["content-type"].startswith("application/openmetrics-text")
    assert is_open == ("openmetrics" in accept)
    parse = open_metrics if is_open else prometheus
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(response.text)
        for sample in family.samples
    }


def rows(samples: Samples, outcome: str) -> float:
    return samples["monitorkit_rows_total", (("outcome", outcome),)]


async def test_answers_batches_and_the_log_are_counted(
    client: httpx.AsyncClient, services: Services, row: Row
) -> None:
    for _ in range(3):
        await client.post("/predict", json=row)
    await client.post("/predict/batch", json=[row] * 20)
    await client.post("/predict", json=row | {"age": "old"})
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        samples = await scraped(client, accept)
        assert rows(samples, "answered") == services.writer.rows == 23
        assert {rows(samples, outcome) for outcome in ("late", "dropped", "refused")} == {0}
        assert samples["monitorkit_logged_rows", ()] == 23
        assert samples["monitorkit_batch_rows_count", ()] == 4
        assert samples["monitorkit_batch_rows_sum", ()] == 23
        assert samples["monitorkit_batch_rows_bucket", (("le", "16.0"),)] == 3
        assert samples["monitorkit_batch_duration_seconds_count", ()] == 4
        assert samples["monitorkit_waiting_rows", ()] == 0
        assert samples["monitorkit_log_failing", ()] == 0


async def test_a_log_that_cannot_be_written_shows(
    client: httpx.AsyncClient, services: Services, row: Row
) -> None:
    services.writer.failure = "No space left on device"
    assert (await scraped(client))["monitorkit_log_failing", ()] == 1
    await client.post("/predict", json=row)
    assert (await scraped(client))["monitorkit_log_failing", ()] == 0


async def test_every_name_has_our_prefix_and_a_description(client: httpx.AsyncClient) -> None:
    families = list(prometheus((await client.get("/metrics")).text))
    assert families
    for family in families:
        assert family.name.startswith("monitorkit_")
        assert family.documentation
