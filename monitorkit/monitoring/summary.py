"""A cycle's outcome as a person reads it on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitorkit import tables
from monitorkit.config import Config
from monitorkit.contracts import Finding, Outcome, RunResult, Skipped

_DISTANCE = "distance"


def show(config: Config, outcome: RunResult | Skipped, console: Console | None = None) -> None:
    """Print what a cycle found.

    Args:
        config: says where files are.
        outcome: of the cycle.
        console: where to print; stdout by default.
    """
    console = console or tables.console()
    if isinstance(outcome, Skipped):
        console.print(f"Skipped: {outcome.reason}.")
        return
    window = outcome.window
    console.print(
        f"{window.rows:,} rows of model version {window.model_version}, "
        f"{window.first:%Y-%m-%d %H:%M:%S} to {window.last:%H:%M:%S} UTC"
    )
    console.print(_monitors(outcome))
    for sentence in _told(outcome):
        console.print(sentence, soft_wrap=True)
    if outcome.drift is not None:
        console.print(_verdict(outcome))
    file = config.storage.results / f"{outcome.run_id}.json"
    console.print(f"Result: {file}", soft_wrap=True)
    for part in outcome.outcomes:
        for report in part.reports:
            console.print(f"Report: {config.storage.reports / report}", soft_wrap=True)


def _verdict(result: RunResult) -> str:
    drift = result.drift
    if drift is None or drift.dataset_drift_detected is None:
        return "Verdict: no feature could be evaluated."
    share = f"{len(drift.drifted_features)} of {drift.num_features_evaluated} features drifted"
    names = f": {', '.join(drift.drifted_features)}" if drift.drifted_features else ""
    verdict = "drift" if drift.dataset_drift_detected else "no data set drift"
    limit = f"from {drift.share_threshold:.0%} of the features on, by {drift.monitor!r}"
    return f"Verdict: {verdict} ({share}{names}; {limit})."


def _monitors(result: RunResult) -> Table:
    table = Table("monitor", "status", "drifted", "seconds", box=None, pad_edge=False)
    for outcome in result.outcomes:
        cells = (outcome.name, outcome.status, _said(outcome), f"{outcome.seconds:.2f}")
        table.add_row(*map(Text, cells))
    return table


def _said(outcome: Outcome) -> str:
    if outcome.error is not None:
        return outcome.error
    drifted: dict[str, str] = {}
    usual = _usual(outcome)
    for finding in outcome.findings:
        if finding.drift:  # several measures of a column may
            drifted.setdefault(finding.column or finding.measure, _short(finding, usual))
    return ", ".join(drifted.values()) or "-"


def _told(result: RunResult) -> list[str]:
    """The drifts that a monitor tells of in a sentence."""
    return [
        f"{finding.column or finding.measure}: {finding.detail['says']}"
        for outcome in result.outcomes
        for finding in outcome.findings
        if finding.drift and finding.detail.get("says")
    ]


def _usual(outcome: Outcome) -> str | None:
    """The measure whose numbers need no name: the distance, or the only one of the columns."""
    measures = {
        finding.measure
        for finding in outcome.findings
        if finding.column is not None and finding.value is not None
    }
    if _DISTANCE in measures:
        return _DISTANCE
    return measures.pop() if len(measures) == 1 else None


def _short(finding: Finding, usual: str | None) -> str:
    """A column and its number, with the kind of number where the others' is another one."""
    value = "" if finding.value is None else f" {finding.value:.3g}"
    if finding.column is None:
        return f"{finding.measure}{value}"
    kind = "" if finding.measure == usual else f" {finding.measure.replace('_', ' ')}"
    return f"{finding.column}{kind}{value}"
