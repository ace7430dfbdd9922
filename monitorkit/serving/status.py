"""What the service says of itself: health, readiness, the model, the state of monitoring."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monitorkit
from monitorkit.contracts import MonitoringStatus, RunResult
from monitorkit.engines import Scorer
from monitorkit.redaction import redacted
from monitorkit.serving.problems import Problem
from monitorkit.serving.served import Served

if TYPE_CHECKING:
    from monitorkit.serving.services import Services

PROXY_METRICS = "proxy_metrics"


def index(services: Services, links: dict[str, str]) -> dict[str, Any]:
    """GET /: what this is, and where to go on."""
    served = services.slot.current
    return {
        "service": "monitorkit",
        "version": monitorkit.__version__,
        "model": None
        if served is None
        else {"name": served.model.card.name, "version": served.model.card.version},
        "links": links,
    }


def health(services: Services) -> dict[str, Any]:
    """GET /health: everything that may be wrong, from what is known already."""
    served = services.slot.current
    status = services.monitoring_status()
    last = status.last_cycle
    no_reference = status.reference in {"missing", "changed", "unreadable"}
    no_results = status.results_error is not None
    batcher = services.pipeline.batcher
    reasons = [
        reason
        for wrong, reason in (
            (served is None, "no model is loaded"),
            (services.writer.failure is not None, "the prediction log cannot be written"),
            (
                services.disk.almost_full,
                (
                    f"the disk of {services.config.storage.root} is almost full: free space, or the"
                    " prediction log cannot be written soon"
                ),
            ),
            (
                no_reference,
                f"the reference is {status.reference}: monitoring is off, serving goes on",
            ),
            (
                no_results,
                "the results cannot be read: monitoring is off, serving goes on",
            ),
            (
                last is not None
                and last.outcome == "failed"
                and not (no_reference or no_results),  # which say why
                "the last monitoring cycle failed, serving goes on: see last_cycle.reason",
            ),
        )
        if wrong
    ]
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "model_loaded": served is not None,
        "model_name": services.config.registry.model_name,
        "model_version": served.model.card.version if served is not None else None,
        "model_stage": services.config.registry.alias,
        "predictions_logged": services.writer.rows,
        "log": {"failure": services.writer.failure},
        "disk": services.disk.health(),
        "reference": reference(status),
        "results": {"error": status.results_error},
        "last_cycle": asdict(status.last_cycle) if status.last_cycle is not None else None,
        "queue": {
            "waiting_rows": batcher.waiting_rows,
            "refused_rows": batcher.refused_rows,
            "dropped_rows": batcher.dropped_rows,
            "late_rows": batcher.late_rows,
        },
        "version": monitorkit.__version__,
        "started_at": services.started_at,
        "uptime_seconds": round((datetime.now(UTC) - services.started_at).total_seconds(), 3),
    }


def reference(status: MonitoringStatus) -> dict[str, Any]:
    """The state of the frozen reference."""
    return {
        "status": status.reference,
        "hash": status.reference_hash,
        "error": status.reference_error,
    }


def not_ready(services: Services) -> str | None:
    """Why no request should come here; None: it may. Touches the disk only after a failed write.

    A log that failed once is tried with a small file: whoever waits for /ready before sending
    would otherwise never send the row that shows that it works again.
    """
    if services.slot.current is None:
        return "No model is loaded."
    failure = services.writer.failure
    if failure is None:
        return None
    if services.writer.locked_out or not can_write(services.writer.path):
        return f"The prediction log cannot be written: {failure}."
    return None


def check_ready(services: Services) -> None:
    """Nothing, where a request may come here.

    Raises:
        Problem: 503, with the reason.
    """
    reason = not_ready(services)
    if reason is not None:
        raise Problem("not-ready", reason)


def can_write(segment: Path) -> bool:
    """Whether a file can be added to, and one with bytes in it made beside it; nothing stays."""
    probe = segment.with_name(f".probe-{os.getpid()}")
    try:
        if segment.exists():
            os.close(os.open(segment, os.O_WRONLY | os.O_APPEND))
        probe.write_bytes(b"\0" * 4096)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True


def model_info(served: Served, alias: str) -> dict[str, Any]:
    """GET /model/info: the card, what requests must hold, and how it is computed."""
    model = served.model
    card = model.card
    spellings = served.schema.spellings
    return {
        "name": card.name,
        "version": card.version,
        "alias": alias,
        "run_id": card.run_id,
        "tracking_uri": redacted(card.tracking_uri),
        "created_at": card.created_at,
        "sha256": card.sha256,
        "estimator": card.estimator,
        "classes": list(card.classes),
        "positive_class": card.classes[1],
        "features": [
            {**asdict(feature), "spellings": list(spellings[feature.name])}
            for feature in served.schema.features
        ],
        "metadata": dict(card.metadata),
        "engine": model.scorer.choice.name,
        "engine_reason": model.scorer.choice.reason,
        "max_difference": model.scorer.choice.max_difference,
        "milliseconds": {
            "first_row": model.scorer.few.first_row,
            "each_further_row": model.scorer.few.each_further_row,
        },
        "bulk": bulk(model.scorer),
    }


def bulk(scorer: Scorer) -> dict[str, Any] | None:
    """The engine that takes over for many rows at once; None when one is fastest for any number."""
    if not math.isfinite(scorer.bulk_from):
        return None
    return {
        "engine": scorer.bulk.engine.name,
        "from_rows": int(scorer.bulk_from),
        "milliseconds": {
            "first_row": scorer.bulk.first_row,
            "each_further_row": scorer.bulk.each_further_row,
        },
    }


def stats(services: Services, latest: RunResult | None) -> dict[str, Any]:
    """GET /monitoring/stats: how monitoring runs, and what it said last."""
    return {
        "predictions_logged": services.writer.rows,
        "monitoring": asdict(services.monitoring_status()),
        "latest": None if latest is None else _latest(latest),
    }


def _latest(result: RunResult) -> dict[str, Any]:
    drift = result.drift
    return {
        "run_id": result.run_id,
        "trigger": result.trigger,
        "finished_at": result.finished_at,
        "window": asdict(result.window),
        "drift": None
        if drift is None
        else {**asdict(drift), "num_drifted_features": drift.num_drifted_features},
        "monitors": {outcome.name: outcome.status for outcome in result.outcomes},
        "proxy_metrics": [
            asdict(finding)
            for outcome in result.outcomes
            if outcome.kind == PROXY_METRICS
            for finding in outcome.findings
        ],
    }
