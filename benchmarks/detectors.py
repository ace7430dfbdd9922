"""Detectors for `benchmarks.alarms`: monitorkit's rule, and what others do, on the same tallies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov, rel_entr

from benchmarks.streams import BEGIN, CYCLE, DAY, REFERENCE_ROWS, Tallies, buckets
from monitorkit.sequential.bursts import design_effect
from monitorkit.sequential.events import PARTS, Events
from monitorkit.sequential.rule import Rule
from monitorkit.sequential.starts import CLASSES, FOLLOWED, allowance_of

GATE = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A false or a right one: when, and of which column and measure."""

    cycle: int
    groups: tuple[tuple[int, str], ...]


class Ours:
    """monitorkit's rule, asked after every cycle.

    Of a stream of 30 days only those cycles are judged in which it could alarm at all: where the
    likelihood ratio of some event, which its evidence never exceeds, is as large as a drift needs.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def first_alarm(
        self,
        tallies: NDArray[np.int64],
        cells: NDArray[np.int64],
        rate: int,
        *,
        bursty: bool = False,
    ) -> Alarm | None:
        """The first cycle after which a column is called drifted."""
        first = -(-GATE // rate)
        cycles = [at for at in self.possible(tallies, cells if bursty else None) if at >= first]
        alarms = (self.alarm_at(tallies, cells, end, rate) for end in cycles)
        return next((alarm for alarm in alarms if alarm is not None), None)

    def alarm_at(
        self, tallies: NDArray[np.int64], cells: NDArray[np.int64], end: int, rate: int
    ) -> Alarm | None:
        """What is called drifted after a cycle."""
        first = max(0, end - DAY)
        window = buckets(first, end, rate)
        now = BEGIN + end * CYCLE
        part, since = slice(first, end), now - DAY * CYCLE
        repeats = self._repeats(cells[:, part])
        weighed = self.rule.weigh(window, tallies[part], repeats, (since, now), CYCLE)
        if weighed is None:
            return None
        drifted = np.flatnonzero((weighed.evidence >= weighed.needed).any(axis=0)).tolist()
        return Alarm(end, tuple(self.rule.groups[at] for at in drifted)) if drifted else None

    def _repeats(self, cells: NDArray[np.int64]) -> float | None:
        once = np.ones(cells.shape[2], np.int64)
        by_cycle = cells.swapaxes(0, 1)
        return self.rule.repeats.design_effect(
            [[(of_column, once) for of_column in of_cycle] for of_cycle in by_cycle]
        )

    def possible(
        self, tallies: NDArray[np.int64], bursts: NDArray[np.int64] | None = None
    ) -> list[int]:
        """Cycles after which an alarm is possible; with the cells of a stream with bursts."""
        effects = np.ones(len(tallies) + 1, np.float32)
        if bursts is not None:
            effects = self._effects(tallies, bursts)
        events = self.rule.events
        successes, trials = events.count(tallies)
        every = np.all(trials == events.rows(tallies)[:, None], axis=0)
        rate = int(events.rows(tallies)[0])
        # Differences of less than 65,536 are right however often the sums went round.
        whole = _cumulated(successes[:, every]).astype(np.uint16)
        summed, rows = (
            _cumulated(part[:, ~every]).astype(np.float32) for part in (successes, trials)
        )
        few = [
            (each.reference, events.tolerance[column], _cumulated(each.count(tallies)))
            for column, each in events.few.items()
        ]
        found: set[int] = set()
        for starts, ends, needed in self._pairs(len(tallies)):
            least = (needed * effects[ends])[:, None]
            length = rate * int(ends[0] - starts[0])
            s = whole[ends] - whole[starts]
            hit = _surely(s, length, events.highest[every], least)
            hit |= _surely(length - s, length, 1 - events.lowest[every], least)
            some, n = summed[ends] - summed[starts], rows[ends] - rows[starts]
            hit |= _may_exceed(some, n, events.highest[~every], least)
            hit |= _may_exceed(n - some, n, 1 - events.lowest[~every], least)
            for reference, tolerance, counts in few:
                hit |= _may_vary(counts[ends] - counts[starts], reference, tolerance, least[:, 0])
            found.update(ends[hit].tolist())
        return sorted(found)

    def _effects(self, tallies: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.float32]:
        """At most the design effect of each cycle's window: it changes slowly."""
        events, step = self.rule.events, DAY // 24
        chosen = self.rule.of_bursts
        successes, trials = (part[:, chosen].astype(np.float64) for part in events.count(tallies))
        times = np.arange(len(tallies), dtype=np.float64) * CYCLE.total_seconds()
        at = [*range(0, len(tallies), step), len(tallies)]
        known = []
        for end in at:
            window = slice(max(0, end - DAY), end)
            variation = design_effect(times[window], successes[window], trials[window])
            known.append(max(variation or 1.0, self._repeats(cells[:, window]) or 1.0))
        lowest = np.minimum(known[:-1], known[1:]) * 0.7
        cycles = np.minimum(np.arange(len(tallies) + 1) // step, len(lowest) - 1)
        return np.maximum(lowest[cycles], 1.0).astype(np.float32)

    def _pairs(self, cycles: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], float]]:
        """Starts and ends of what is looked at, and the evidence that makes a drift of it."""
        zero = int((BEGIN.timestamp()) // CYCLE.total_seconds())
        for kind in range(CLASSES):
            spacing = 1 << kind
            every = spacing if kind == CLASSES - 1 else 2 * spacing
            first = (-zero + (0 if kind == CLASSES - 1 else spacing)) % every
            starts = np.arange(first, cycles, every)
            if not starts.size:
                continue
            allowance = allowance_of(kind, CYCLE)
            needed = -np.log(allowance * self.rule.rate * max(PARTS.values()))
            for age in range(1, min(FOLLOWED * spacing, DAY + 1)):
                begun = starts[starts + age <= cycles]
                if begun.size:
                    yield begun, begun + age, float(needed)


def _limit(bound: Floats, least: float, rows: int) -> NDArray[np.uint16]:
    """As `_may_exceed` for so many rows: from how many successes on."""
    # Never as many, where the bound is 1.
    limit = rows * bound + np.sqrt(least * rows * bound * (1 - bound)) + (bound >= 1)
    return np.minimum(np.ceil(limit), np.iinfo(np.uint16).max).astype(np.uint16)


def _surely(
    s: NDArray[np.uint16], rows: int, bound: Floats, needed: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """As `_may_exceed`, where all events have as many rows."""
    hit = np.zeros(len(s), np.bool_)
    at, event = np.nonzero(s >= _limit(bound, float(needed.min()), rows))
    if at.size:
        many = np.full(at.size, float(rows))
        gain = _gain(s[at, event].astype(np.float64), many, bound[event])
        hit[at[gain >= needed[at, 0]]] = True
    return hit


def _may_exceed(
    s: NDArray[np.float32], n: NDArray[np.float32], bound: Floats, least: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Whether n KL(s/n, bound) is as large: it is at most n (s/n - p)^2 / (p (1 - p))."""
    p = bound.astype(np.float32)
    over = s - n * p
    hit = np.zeros(len(s), np.bool_)
    at, event = np.nonzero((over > 0) & (over * over >= n * (p * (1 - p)) * least))
    if at.size:
        have, many = (part[at, event].astype(np.float64) for part in (s, n))
        hit[at[_gain(have, many, bound[event]) >= least[at, 0]]] = True
    return hit


def _may_vary(
    counts: Floats, reference: Floats, tolerance: float, least: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """As `_may_exceed` for the subset of values whose share grew most."""
    n = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = counts / n[:, None] > reference
    inside = np.where(more, counts, 0).sum(axis=1)
    p = np.minimum(np.where(more, reference, 0).sum(axis=1) + tolerance, 1)
    hit: NDArray[np.bool_] = inside > n * p
    at = np.flatnonzero(hit)
    needed = least[at] + counts.shape[1] * np.log(2)
    hit[at] = _gain(inside[at], n[at], p[at]) >= needed
    return hit


def _gain(s: Floats, n: Floats, p: Floats) -> Floats:
    """N KL(s/n, p)."""
    found: Floats = rel_entr(s, n * p) + rel_entr(n - s, n * (1 - p))
    return found


def _cumulated(counts: NDArray[np.int64]) -> Floats:
    return np.concatenate((np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)))


class Windows:
    """Statistics of others on the last so many cycles, for every cycle of a stream.

    Kolmogorov and Smirnov's distance is taken where the rule looks, at 50 quantiles and all jumps;
    PSI and Jensen-Shannon over tenths of the reference (or over single values, where there are no
    more than 20), as Evidently and NannyML do.
    """

    def __init__(self, tallies: Tallies) -> None:
        self._events: Events = tallies.rule.events
        self.columns = len(tallies.cells.names)
        distance = self._events.measure == 0
        self._cuts = [
            np.flatnonzero(distance & (self._events.column == column) & self._is_cut())
            for column in range(self.columns)
        ]
        self._tenths = [self._chosen(cuts) for cuts in self._cuts]

    def _is_cut(self) -> NDArray[np.bool_]:
        return np.array([name.startswith(("up to", "below")) for name in self._events.names])

    def _chosen(self, cuts: NDArray[np.int64]) -> NDArray[np.int64]:
        shares = self._events.reference[cuts]
        if len(cuts) <= 2 * 20:
            return cuts
        nearest = [int(np.argmin(np.abs(shares - tenth / 10))) for tenth in range(1, 10)]
        return cuts[np.unique(nearest)]

    def statistics(
        self, tallies: NDArray[np.int64], length: int, every: int = 1
    ) -> tuple[NDArray[np.int64], Mapping[str, Floats]]:
        """(cycles,) ends of full windows, and (cycles, columns) of each statistic.

        Args:
            tallies: of a stream.
            length: of a window, in cycles.
            every: only each so many cycles.
        """
        successes, trials = self._events.count(tallies)
        summed, rows = _cumulated(successes), _cumulated(trials)
        ends = np.arange(length, len(tallies) + 1, every)
        s, n = summed[ends] - summed[ends - length], rows[ends] - rows[ends - length]
        found: dict[str, list[Floats]] = {"ks": [], "p": [], "psi": [], "js": []}
        for cuts, tenths in zip(self._cuts, self._tenths, strict=True):
            apart = np.abs(s[:, cuts] / n[:, cuts] - self._events.reference[cuts]).max(axis=1)
            many = n[:, cuts[0]]
            found["ks"].append(apart)
            effective = np.sqrt(many * REFERENCE_ROWS / (many + REFERENCE_ROWS))
            found["p"].append(kolmogorov(effective * apart))
            p, q = _bins(self._events.reference[tenths]), _bins(s[:, tenths] / n[:, tenths])
            found["psi"].append(_psi(p, q, many))
            found["js"].append(_jensen_shannon(p, q))
        return ends, {name: np.stack(parts, axis=1) for name, parts in found.items()}


def _bins(up_to: Floats) -> Floats:
    ends = [np.zeros((*up_to.shape[:-1], 1)), up_to, np.ones((*up_to.shape[:-1], 1))]
    return np.maximum(np.diff(np.concatenate(ends, axis=-1), axis=-1), 0.0)


def _psi(p: Floats, q: Floats, rows: Floats) -> Floats:
    used = p > 0
    p = p[used]
    q = np.maximum(q[:, used], 0.5 / rows[:, None])
    found: Floats = ((q - p) * np.log(q / p)).sum(axis=1)
    return found


def _jensen_shannon(p: Floats, q: Floats) -> Floats:
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        of_p = np.where(p > 0, p * np.log2(p / middle), 0.0)
        of_q = np.where(q > 0, q * np.log2(q / middle), 0.0)
    found: Floats = np.sqrt(np.maximum((of_p + of_q).sum(axis=1) / 2, 0.0))
    return found


class NormedWasserstein:
    """Evidently's default on a reference of more than 1,000 rows; exact, on raw rows."""

    def __init__(self, reference: Floats, population: Floats) -> None:
        self._columns = []
        for before, now in zip(reference.T, population.T, strict=True):
            known = before[~np.isnan(before)]
            grid = np.unique(np.concatenate((known, now[~np.isnan(now)])))
            up_to = np.searchsorted(np.sort(known), grid, side="right") / len(known)
            place = np.where(np.isnan(now), len(grid), np.searchsorted(grid, now))
            self._columns.append((place, up_to, np.diff(grid) / max(np.std(known), 1e-3)))

    def distances(self, rows: NDArray[np.int64]) -> Floats:
        """(columns,) of a window of so numbered rows of the population."""
        found = []
        for place, up_to, widths in self._columns:
            counts = np.bincount(place[rows], minlength=len(up_to) + 1)[:-1]
            apart = np.cumsum(counts) / max(counts.sum(), 1) - up_to
            found.append(float(np.abs(apart[:-1]) @ widths))
        return np.array(found)


def benjamini_hochberg(p_values: Floats, level: float) -> NDArray[np.bool_]:
    """(cycles,) whether any column is rejected at a false discovery rate."""
    ordered = np.sort(p_values, axis=1)
    limits = level * np.arange(1, ordered.shape[1] + 1) / ordered.shape[1]
    found: NDArray[np.bool_] = np.any(ordered <= limits, axis=1)
    return found
