"""/metrics is what Prometheus' own parser reads, and its counts are those of the service."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import anyio
import httpx
import pytest
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


@pytest.mark.parametrize("version", ["abc", "1.x", "", "1.0.0.0.0"])
async def test_an_odd_version_gets_the_plain_format(
    client: httpx.AsyncClient, version: str
) -> None:
    assert await scraped(client, f"text/plain; version={version}")


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
        assert {rows(samples, outcome) for outcome in ("late", "dropped", "refused", "failed")} == {
            0
        }
        assert samples["monitorkit_logged_rows", ()] == 23
        assert samples["monitorkit_predictions_served_total", ()] == 23
        assert samples["monitorkit_predictions_logged_total", ()] == 23
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


async def test_what_is_served_is_logged_at_every_moment_under_load(
    client: httpx.AsyncClient, services: Services, row: Row
) -> None:
    """Takes out: `logged_rows` being read where an append returns, in Writer.append."""

    async def send(number: int) -> None:
        for wave in range(12):
            size = (number + wave) * 37 % 300 + 1
            response = await client.post("/predict/batch", json=[row] * size)
            assert response.status_code == 200

    async def leave(number: int) -> None:
        for wave in range(12):
            with anyio.move_on_after(0.001 * ((number + wave) % 5)):
                await client.post("/predict", json=row)

    sent = asyncio.gather(*map(send, range(5)), *map(leave, range(5)))
    seen = set()
    while not sent.done():
        await asyncio.sleep(0)
        samples = await scraped(client)
        served = samples["monitorkit_predictions_served_total", ()]
        assert served - samples["monitorkit_predictions_logged_total", ()] == 0
        seen.add(served)
    await sent
    assert len(seen) > 5
    assert services.writer.rows == services.pipeline.batcher.served_rows


async def test_disk_use_is_shown_by_what_is_kept(
    client: httpx.AsyncClient, services: Services, row: Row
) -> None:
    await client.post("/predict", json=row)
    storage = services.config.storage
    (storage.mlflow / "artifacts").mkdir(parents=True)
    (storage.mlflow / "artifacts" / "a").write_bytes(b"x" * 1000)
    (storage.mlflow / "b").write_bytes(b"x" * 234)
    await services.disk.look()
    samples = await scraped(client)

    def size(what: str) -> float:
        return samples["monitorkit_disk_bytes", (("what", what),)]

    log = sum(path.stat().st_size for path in storage.predictions.iterdir())
    assert size("log") == log > 0
    assert (size("mlflow"), size("reports"), size("models")) == (1234, 0, 0)
    free = shutil.disk_usage(storage.root).free
    assert abs(samples["monitorkit_disk_free_bytes", ()] - free) < 2**30
    (storage.mlflow / "b").unlink()
    samples = await scraped(client)  # looked at so lately that it stands
    assert size("mlflow") == 1234


async def test_every_name_has_our_prefix_and_a_description(client: httpx.AsyncClient) -> None:
    families = list(prometheus((await client.get("/metrics")).text))
    assert families
    for family in families:
        assert family.name.startswith("monitorkit_")
        assert family.documentation
