"""What the alarm benchmark found, as tables and as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.machine import facts
from benchmarks.streams import BUDGET, CHANGES, DAY, REFERENCE_ROWS, RHYTHM
from monitorkit.sequential.evidence import share_bounds

RATES = (1, 10, 100)
KINDS_AND_RATES = (
    *((kind, rate) for kind in ("quiet", "bursts", "rhythm") for rate in RATES),
    ("busy client", RATES[-1]),  # which would be most of less traffic
)
"""Kinds of streams, and how many rows come in a cycle."""

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
    "KS of 24 h": ("ks", DAY, 1),
    "KS of 1,000 rows": ("ks", 10, 1),
    "KS of 200 rows": ("ks", 2, 1),
    "PSI of 24 h": ("psi", DAY, 1),
    "PSI of 1,000 rows": ("psi", 10, 1),
    "Jensen-Shannon of 1,000 rows": ("js", 10, 1),
    "NannyML, tuned": ("js in deviations", 2, 2),
}
"""Peers with thresholds that give as many false alarms as ours may: statistic, window in cycles at
100 rows each, and how often it is looked at."""

TUNED_ADWIN = "ADWIN, tuned"

ALL_TUNED = (*TUNED, TUNED_ADWIN)


@dataclass
class Found:
    """What the streams gave."""

    alarms: dict[tuple[str, str, int, str], list[bool]] = field(default_factory=dict)
    delays: dict[tuple[str, str, str], list[int | None]] = field(default_factory=dict)
    costs: dict[str, tuple[float, float]] = field(default_factory=dict)
    tuning: dict[str, int] = field(default_factory=dict)
    delta: dict[str, float] = field(default_factory=dict)

    def of(self, source: str, change: str, detector: str) -> list[int | None]:
        """Delays; none, where time was short."""
        return self.delays.get((source, change, detector), [])

    def ours(self, source: str, kinds: Sequence[str]) -> list[bool]:
        """Whether streams of some kinds had an alarm of ours."""
        return [
            hit
            for (name, kind, _, detector), some in self.alarms.items()
            if (name, detector) == (source, OURS) and kind in kinds
            for hit in some
        ]

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
    columns = [f"{kind}, {rate} a cycle" for kind, rate in KINDS_AND_RATES]
    streams = sum(len(hits) for key, hits in found.alarms.items() if key[3] == OURS)
    alarms = sum(sum(hits) for key, hits in found.alarms.items() if key[3] == OURS)
    lines = [
        "# Alarms",
        "",
        f"Made by `{' '.join(('python -m benchmarks.alarms', *arguments))}`;",
        "what it measures and how stands in",
        "`benchmarks/alarms.py`, `detectors.py` and `libraries.py`. A stream is 30 days of 288",
        f"cycles; the reference has {REFERENCE_ROWS:,} rows, streams are drawn from other ones of",
        "the same source, which is split anew for one stream after the other, in ten ways.",
        f"monitorkit's budget is {BUDGET!r}, 1 % of the streams; tolerance 0.05, factor 1.5.",
        "Bursts: each client's row comes 1 to 20 times in a row. Busy client: in each hour one",
        "client's row comes 10 to 20 times in a row. Rhythm: the younger half of the",
        f"population comes up to {RHYTHM:.0%} of all rows more often by day, the older one by",
        "night, so that ages are up to that far from the reference's.",
        "",
        *(f"- {fact}" for fact in facts(("numpy", "scipy", "scikit-learn"))),
        *(
            f"- a cycle's look at 24 hours of 10 features and the score, {source} rows: "
            f"{in_cycle:.0f} ms (target 50); the first one after a start: {at_first:.0f} ms"
            for source, (in_cycle, at_first) in found.costs.items()
        ),
        "",
        *targets(found),
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
            "| detector | " + " | ".join(columns) + " |",
            "|---|" + "---:|" * len(columns),
        ]
        for detector in (OURS, *PEERS, *ALL_TUNED, NEVER, ALWAYS):
            hits = (
                found.alarms.get((source, kind, rate, detector), [])
                for kind, rate in KINDS_AND_RATES
            )
            lines.append(f"| {detector} | " + " | ".join(map(share_of, hits)) + " |")
        lines.append("")
    lines += [
        "Evidently's tests are asked of the last 24 hours, once in six hours to the first alarm.",
        "river's detectors see each row, as its rank among the reference's values (KSWIN does not",
        "mind, ADWIN is made for values up to 1). Tuned ones are for 100 rows a cycle: their",
        "thresholds, or ADWIN's delta, give 1 % of quiet streams an alarm, as far as the streams",
        "that they are tuned on can tell, and each column has one in proportion to its own noise.",
        "",
        "## Rows after a change until it is found",
        "",
        "100 rows a cycle, the change after 15 days: median / 90 % (missed). A change that is not",
        "found in a day, 28,800 rows, is missed; Evidently's tests are asked once in six hours",
        "only. Benjamini and Hochberg's is an alarm of any column, most of them false, and so are",
        "most of KSWIN's. Whole cycles count, for ADWIN, tuned, too.",
        "",
    ]
    for source in dict.fromkeys(key[0] for key in found.delays):
        detectors = (OURS, *ALL_TUNED, *PEERS, NEVER)
        lines += [
            f"### {source.capitalize()} rows, {found.changes(source)} streams of each change",
            "",
            "| change | " + " | ".join(detectors) + " | ours / best tuned |",
            "|---|" + "---:|" * (len(detectors) + 1),
        ]
        for change in CHANGES:
            cells = [delay_of(found.of(source, change, each)) for each in detectors]
            lines.append(
                f"| {change} | " + " | ".join(cells) + f" | {_ratio(found, source, change)} |"
            )
        told = f"Thresholds: from {found.tuning.get(source, 0)} quiet streams; ADWIN's delta "
        lines += ["", f"{told}{found.delta.get(source, 0):g}.", ""]
    return "\n".join(lines)


MOST_ROWS: Mapping[str, int] = {
    "utilisation = 1.0": 200,
    "utilisation x3": 200,
    "income x0.8": 200,
    "dependents +1": 200,
    "income / 12 in 20 %": 400,
    "age -5": 1000,
    "90 days late = 0": 2000,
}
"""Asked for: the median of the rows that a change may take."""

MOST_SHARE, MOST_BOUND, MOST_BURSTY = 0.01, 0.019, 0.02
MOST_RATIO = 1.2
MOST_MILLISECONDS = 50


def targets(found: Found) -> list[str]:
    """What was asked for, and whether it is met, by source."""
    lines = [
        "## Targets",
        "",
        "| what | target | rows | measured | met |",
        "|---|---|---|---:|---|",
    ]

    def add(what: str, target: str, source: str, measured: str, *, met: bool) -> None:
        verdict = "yes" if met else "**no**"
        lines.append(f"| {what} | {target} | {source} | {measured} | {verdict} |")

    for source in dict.fromkeys(key[0] for key in found.alarms):
        for what, target, measured, met in _false_alarms(found, source):
            add(what, target, source, measured, met=met)
    for source in dict.fromkeys(key[0] for key in found.delays):
        delays = [delay for change in CHANGES for delay in found.of(source, change, OURS)]
        missed = sum(delay is None for delay in delays)
        add("changes missed", "0", source, f"{missed} of {len(delays)}", met=not missed)
        for change in CHANGES:
            ours, best = _ours_and_best(found, source, change)
            if change in MOST_ROWS and found.of(source, change, OURS):
                what, most_rows = f"median rows until {change} is found", MOST_ROWS[change]
                add(what, f"≤ {most_rows:,}", source, f"{ours:,.0f}", met=ours <= most_rows)
        for change in CHANGES:
            ours, best = _ours_and_best(found, source, change)
            if found.of(source, change, OURS) and np.isfinite(best):
                what = f"our rows / the best tuned peer's, {change}"
                ratio = ours / best
                met = ratio <= MOST_RATIO
                add(what, f"≤ {MOST_RATIO:g}", source, f"{ratio:.2f}", met=met)
    for source, (in_cycle, _) in found.costs.items():
        met = in_cycle <= MOST_MILLISECONDS
        what = "milliseconds of the rule in a cycle, 10 features x 24 h"
        add(what, f"≤ {MOST_MILLISECONDS}", source, f"{in_cycle:.0f}", met=met)
    lines += [
        "",
        "A shift of 0.02 over ten million rows raises no alarm:",
        "`tests/sequential/test_drift_rule.py`.",
    ]
    return lines


def _false_alarms(found: Found, source: str) -> Iterator[tuple[str, str, str, bool]]:
    """What was asked for, how much, what was found, and whether that is enough."""
    for kinds, what, most, bound in (
        (("quiet",), "quiet streams with an alarm (upper bound)", MOST_SHARE, MOST_BOUND),
        (("bursts", "rhythm"), "the same with bursts or a rhythm", MOST_BURSTY, None),
        (("busy client",), "the same with a busy client an hour", MOST_BURSTY, None),
    ):
        hits = found.ours(source, kinds)
        if hits:  # else time was short
            share, high = float(np.mean(hits)), upper_bound(sum(hits), len(hits))
            met = share <= most and (bound is None or high <= bound)
            target = f"≤ {most:.0%}" + ("" if bound is None else f" (≤ {bound:.1%})")
            yield what, target, f"{share:.1%} of {len(hits):,} ({high:.1%})", met


def share_of(hits: Sequence[bool]) -> str:
    """Of streams with an alarm, their number and the upper bound."""
    if not hits:
        return "-"
    return f"{np.mean(hits):.1%} ({len(hits)}: {upper_bound(sum(hits), len(hits)):.1%})"


def delay_of(delays: Sequence[int | None]) -> str:
    """Median and 90 % of rows until a change is found, and how often it was not."""
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
    ours, best = _ours_and_best(found, source, change)
    if np.isinf(ours):
        return "-"
    return f"{ours / best:.2f}" if np.isfinite(best) else "only ours"


def _ours_and_best(found: Found, source: str, change: str) -> tuple[float, float]:
    best = min(_median(found.of(source, change, peer)) for peer in ALL_TUNED)
    return _median(found.of(source, change, OURS)), best


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
        for place, detector in enumerate((OURS, *ALL_TUNED)):
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
