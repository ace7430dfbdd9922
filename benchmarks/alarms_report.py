"""What the alarm benchmark found, as tables and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.machine import facts
from benchmarks.streams import BUDGET, CHANGES, DAY, REFERENCE_ROWS, RHYTHM
from monitorkit.sequential.evidence import share_bounds

KINDS = ("quiet", "bursts", "rhythm")
RATES = (1, 10, 100)

OURS, EVIDENTLY, NEVER, ALWAYS = "monitorkit", "Evidently's default", "never", "always"
KS, BONFERRONI, BH = "KS, p < 0.05", "KS, Bonferroni", "KS, Benjamini-Hochberg"
PSI, JS, NANNYML = "PSI >= 0.1", "Jensen-Shannon >= 0.1", "NannyML, mean + 3 std of chunks"
EVIDENTLY_OPTIONS = {
    "Evidently, KS": "ks",
    "Evidently, PSI": "psi",
    "Evidently, Jensen-Shannon": "jensenshannon",
}
RIVER_DETECTORS = {"river's ADWIN": "ADWIN", "river's KSWIN": "KSWIN"}
PEERS = (
    EVIDENTLY,
    *EVIDENTLY_OPTIONS,
    KS,
    BONFERRONI,
    BH,
    PSI,
    JS,
    NANNYML,
    *RIVER_DETECTORS,
)

TUNED = {
    "KS of 24 h": ("ks", DAY),
    "KS of 1,000 rows": ("ks", 10),
    "KS of 200 rows": ("ks", 2),
    "PSI of 24 h": ("psi", DAY),
    "PSI of 1,000 rows": ("psi", 10),
    "Jensen-Shannon of 1,000 rows": ("js", 10),
}
"""Peers with thresholds that give as many false alarms as ours may: statistic and window."""


@dataclass
class Found:
    """What the streams gave."""

    alarms: dict[tuple[str, str, int, str], list[bool]] = field(default_factory=dict)
    delays: dict[tuple[str, str, str], list[int | None]] = field(default_factory=dict)
    costs: dict[str, tuple[float, float]] = field(default_factory=dict)
    tuning: dict[str, int] = field(default_factory=dict)

    def of(self, source: str, change: str, detector: str) -> list[int | None]:
        """Delays; none, where time was short."""
        return self.delays.get((source, change, detector), [])

    def changes(self, source: str) -> int:
        """How many streams of each change there are at least."""
        return min(len(self.of(source, change, OURS)) for change in CHANGES)


def upper_bound(hits: int, streams: int) -> float:
    """Clopper and Pearson's upper bound of a share, at 95 %."""
    _, high = share_bounds(np.array([hits]), np.array([streams]), np.array([0.05]))
    return float(high[0])


def report(found: Found, arguments: Sequence[str] = ()) -> str:
    """The tables.

    Args:
        found: what the streams gave.
        arguments: that the benchmark was called with.
    """
    sources = list(dict.fromkeys(key[0] for key in found.alarms))
    kinds = [(kind, rate) for kind in KINDS for rate in RATES]
    streams = sum(len(hits) for key, hits in found.alarms.items() if key[3] == OURS)
    alarms = sum(sum(hits) for key, hits in found.alarms.items() if key[3] == OURS)
    lines = [
        "# Alarms",
        "",
        f"Made by `{' '.join(('python -m benchmarks.alarms', *arguments))}`;",
        "what it measures and how stands in",
        "`benchmarks/alarms.py`, `detectors.py` and `libraries.py`. A stream is 30 days of 288",
        f"cycles; the reference has {REFERENCE_ROWS:,} rows, streams are drawn from other ones of",
        f"the same source. monitorkit's budget is {BUDGET!r}, 1 % of the streams; tolerance 0.05,",
        "factor 1.5. Bursts: each client's row comes 1 to 20 times in a row. Rhythm: one half of",
        f"the population comes up to {RHYTHM:.0%} of all rows more often by day, the other one by",
        "night.",
        "",
        *(f"- {fact}" for fact in facts(("numpy", "scipy", "scikit-learn"))),
        *(
            f"- a cycle's look at 24 hours of 10 features and the score, {source} rows: "
            f"{in_cycle:.0f} ms (target 50); the first one after a start: {at_first:.0f} ms"
            for source, (in_cycle, at_first) in found.costs.items()
        ),
        "",
        "## Share of quiet streams with a false alarm",
        "",
        f"Any column, any cycle: of {streams:,} streams {alarms} had an alarm of monitorkit's. In",
        "brackets the number of streams and the 95 % upper bound of the share.",
        "",
    ]
    for source in sources:
        lines += [
            f"### {source.capitalize()} rows",
            "",
            "| detector | " + " | ".join(f"{kind}, {rate} a cycle" for kind, rate in kinds) + " |",
            "|---|" + "---:|" * len(kinds),
        ]
        for detector in (OURS, *PEERS, NEVER, ALWAYS):
            hits = (found.alarms.get((source, kind, rate, detector), []) for kind, rate in kinds)
            lines.append(f"| {detector} | " + " | ".join(map(_share, hits)) + " |")
        lines.append("")
    lines += [
        "Evidently's tests are asked of the last 24 hours, once in six hours to the first alarm.",
        "river's detectors see each row, as its rank among the reference's values (KSWIN does not",
        "mind, ADWIN is made for values up to 1).",
        "",
        "## Rows after a change until it is found",
        "",
        "100 rows a cycle, the change after 15 days: median / 90 % (missed). A change that is not",
        "found in a day, 28,800 rows, is missed; Evidently's tests are asked once in six hours",
        "only. Peers with a window have the threshold that gives 1 % of the quiet streams an",
        "alarm. Benjamini and Hochberg's is an alarm of any column, most of them false, and so are",
        "most of KSWIN's.",
        "",
    ]
    for source in dict.fromkeys(key[0] for key in found.delays):
        detectors = (OURS, *TUNED, *PEERS, NEVER)
        lines += [
            f"### {source.capitalize()} rows, {found.changes(source)} streams of each change",
            "",
            "| change | " + " | ".join(detectors) + " | ours / best tuned |",
            "|---|" + "---:|" * (len(detectors) + 1),
        ]
        for change in CHANGES:
            cells = [_delay(found.of(source, change, each)) for each in detectors]
            lines.append(
                f"| {change} | " + " | ".join(cells) + f" | {_ratio(found, source, change)} |"
            )
        lines += ["", f"Thresholds: from {found.tuning.get(source, 0)} quiet streams.", ""]
    return "\n".join(lines)


def _share(hits: Sequence[bool]) -> str:
    if not hits:
        return "-"
    return f"{np.mean(hits):.1%} ({len(hits)}: {upper_bound(sum(hits), len(hits)):.1%})"


def _delay(delays: Sequence[int | None]) -> str:
    known = np.array([np.inf if delay is None else delay for delay in delays])
    if not known.size:
        return "-"
    missed = int(np.isinf(known).sum())
    if missed == len(known):
        return "missed"
    middle, most = (np.quantile(known, at, method="inverted_cdf") for at in (0.5, 0.9))
    shown = " / ".join("-" if np.isinf(each) else f"{each:,.0f}" for each in (middle, most))
    return shown + (f" ({missed} of {len(known)})" if missed else "")


def _median(delays: Sequence[int | None]) -> float:
    known = [np.inf if delay is None else delay for delay in delays]
    return float(np.quantile(known, 0.5, method="inverted_cdf")) if known else float("inf")


def _ratio(found: Found, source: str, change: str) -> str:
    best = min(_median(found.of(source, change, peer)) for peer in TUNED)
    ours = _median(found.of(source, change, OURS))
    if np.isinf(ours):
        return "-"
    return f"{ours / best:.2f}" if np.isfinite(best) else "only ours"


def draw(found: Found, file: Path) -> None:
    """The share of quiet streams with an alarm, and how many rows the changes take."""
    sources = list(dict.fromkeys(key[0] for key in found.alarms))
    figure = Figure(figsize=(14, 4.2 * len(sources)), layout="constrained")
    for row, axes in enumerate(figure.subplots(len(sources), 2, squeeze=False)):
        source = sources[row]
        detectors = (OURS, *PEERS)
        for place, rate in enumerate(RATES):
            hits = [found.alarms.get((source, "quiet", rate, each), []) for each in detectors]
            shares = [float(np.mean(each)) if each else 0.0 for each in hits]
            at = np.arange(len(detectors)) + 0.27 * (place - 1)
            axes[0].barh(at, shares, 0.25, label=f"{rate} rows a cycle")
        axes[0].set_yticks(range(len(detectors)), detectors)
        axes[0].set_xlabel("share of quiet 30-day streams with a false alarm")
        axes[0].set_title(f"{source} rows")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3}
        axes[0].legend(**below)
        for place, detector in enumerate((OURS, *TUNED)):
            delays = [_median(found.of(source, change, detector)) for change in CHANGES]
            shown = [min(delay, DAY * 100.0) for delay in delays]
            axes[1].plot(
                shown,
                np.arange(len(CHANGES)) + 0.08 * place,
                "D" if detector == OURS else "o",
                label=detector,
            )
        axes[1].set_yticks(range(len(CHANGES)), list(CHANGES))
        axes[1].set_xscale("log")
        axes[1].set_xlabel("rows until a change is found, median (right edge: missed)")
        axes[1].legend(fontsize="small", **below)
        for each in axes:
            each.invert_yaxis()
            each.grid(axis="x", alpha=0.3)
    figure.savefig(file, dpi=110)


def draw_cases(
    cases: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64], float, float]], file: Path
) -> None:
    """Distribution functions of a column before and after, with both distances.

    Args:
        cases: what changed, values of the reference and of the window, the Wasserstein distance in
            standard deviations, and Kolmogorov and Smirnov's.
        file: a PNG file to write.
    """
    figure = Figure(figsize=(4 * len(cases), 3.6), layout="constrained")
    for axes, (title, before, now, wasserstein, distance) in zip(
        figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True
    ):
        for values, label in ((before, "reference"), (now, "window")):
            ordered = np.concatenate(([-1.0], np.sort(values), [1e9]))
            up_to = np.linspace(0, 1, len(ordered) - 1)
            axes.step(ordered, np.append(up_to, 1.0), where="post", label=label)
        axes.set_xlim(-0.1, max(float(np.quantile(before, 0.97)), 3.0))
        axes.set_ylim(0, 1.02)
        axes.set_title(f"{title}\nWasserstein / std {wasserstein:.3f}, distance {distance:.3f}")
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
