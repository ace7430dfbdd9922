"""Cycles of a stream after which the rule could raise an alarm: all of those, and few others.

The rule's evidence is a weighted mean of mixtures of likelihood ratios, and a mixture never exceeds
the largest of them, n KL(s/n, p). So the sum of these over events and starts bounds it from above.
Most of them are far from mattering: whether s is beyond a limit, known beforehand for each number
of rows, is one comparison of 16-bit numbers; only what is beyond is worked out and summed up. The
evidence of shifts is a mean of likelihood ratios itself, whose logarithms add up row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from benchmarks.streams import BEGIN, CYCLE, DAY, buckets
from monitorkit.sequential.starts import CLASSES, FOLLOWED, allowance_of, starts_at
from monitorkit.sequential.subsets import Few
from monitorkit.sequential.weighing import Weigher

Floats = NDArray[np.float64]
Evidence = tuple[NDArray[np.int64], NDArray[np.int64], Floats]
"""Groups, cycles, and natural logarithms of evidence relative to what a drift needs."""

STARTS = 4 * (CLASSES - 1) + FOLLOWED
"""At most so many are followed at a time."""

LEFT_OUT = 0.1
"""What is not worked out adds up to less than this part of the evidence that a drift needs."""

_FINEST = np.log(STARTS / LEFT_OUT)
_BLOCK = 256  # starts at once: their numbers fit into a processor's cache
_BISECTIONS = 12
_ROUNDING = 0.25  # rows, of sums in single precision
_MOST = 50.0
_STEP = 1.6  # of design effects


@dataclass(frozen=True, slots=True, eq=False)
class _Subsets:
    """Values of a column, any of which may be beyond their limits together.

    Attributes:
        group: the measure.
        shares: (k,) from which on each is counted as grown. `tolerance`: of their sum.
        nats: what it costs to ask all subsets.
        rare: it is the other way round: up to which each is counted as shrunk.
        count: of sums of tallies: (..., k) rows with each value, and (...,) with any at all.
    """

    group: int
    shares: Floats
    tolerance: float
    nats: float
    rare: bool
    count: Callable[[NDArray[np.int64]], tuple[NDArray[np.uint16], NDArray[np.uint16]]]

    def least_grown(self, rows: int, least: float) -> float:
        """At least so many rows are the values of a subset beyond that has such a ratio.

        n KL(x + grown / n, x + tolerance), and n KL(x - grown / n, x), are convex in x, the sum of
        the subset's shares: so they are largest at one of the ends, where x is as small as it can
        be, and as large.
        """
        end = 1 - float(self.shares.sum()) if self.rare else self._smallest + self.tolerance
        first = least_beyond(rows, np.array([min(end, 1.0)]), np.array([least]))[0]
        second = rows * (1 - np.exp(-least / max(rows, 1)))
        return float(rows * self.tolerance + min(first, second))

    @property
    def _smallest(self) -> float:
        return 0.0 if self.tolerance else float(self.shares.min())


def _subsets(weigher: Weigher) -> Iterator[_Subsets]:
    events = weigher.events
    for column, few in weigher.few.items():

        def categories(
            summed: NDArray[np.int64], few: Few = few
        ) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
            counts = few.count(summed)
            return counts.astype(np.uint16), counts.sum(axis=-1).astype(np.uint16)

        nats = len(few.reference) * np.log(2)
        group = weigher.place[column, "distance"]
        yield _Subsets(group, few.reference, few.tolerance, nats, rare=False, count=categories)
    for column, frequent in weigher.frequent.items():

        def values(
            summed: NDArray[np.int64], chosen: NDArray[np.int64] = frequent.values
        ) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
            counts, trials = events.count(summed, chosen)
            return counts.astype(np.uint16), trials[..., 0].astype(np.uint16)

        nats = (len(frequent.values) + 1) * np.log(2)
        group = weigher.place[column, "shares"]
        for shares, rare in ((frequent.highest, False), (frequent.lowest, True)):
            yield _Subsets(group, shares, 0.0, nats, rare=rare, count=values)


class Candidates:
    """The candidates among the cycles of streams with so many rows in each.

    Args:
        weigher: that of monitorkit.
        rate: rows in a cycle.

    Raises:
        ValueError: a look-back has more rows than 16 bits can count.
    """

    def __init__(self, weigher: Weigher, rate: int) -> None:
        if rate * DAY > np.iinfo(np.uint16).max:
            raise ValueError(f"rate: a look-back of {rate * DAY:,} rows; up to 65,535 are counted")
        self.weigher, self.rate = weigher, rate
        events = weigher.events
        self.group = np.repeat(np.arange(len(events.sizes)), events.sizes)
        self.mean = np.log(events.weights / 2)  # of all events, up and down
        self.subsets = list(_subsets(weigher))
        shifts = weigher.shifts.items()
        groups = [(weigher.place[column, "shift"], len(each.by)) for column, each in shifts]
        many = np.array([number for _, number in groups], np.int64)
        self.shift = np.repeat(np.array([group for group, _ in groups], np.int64), many)
        self.shift_nats = np.log(np.repeat(many, many))
        self._limits = cache(self._find_limits)

    def __call__(
        self, tallies: NDArray[np.int64], effects: Floats | None = None, first: int = 1
    ) -> list[int]:
        """Cycles after which an alarm is possible.

        Args:
            tallies: (cycles, ...) of a stream.
            effects: (cycles + 1,) at most the design effect after so many cycles.
            first: earlier ones are not looked at.
        """
        stream = _Stream(self, tallies, effects)
        evidence = np.zeros((len(tallies) + 1, len(self.weigher.groups)))
        for group, end, excess in stream.evidence(first):
            np.add.at(evidence, (end, group), np.exp(np.minimum(excess, _MOST)))
        most = evidence.max(axis=1)
        most[:first] = 0.0
        return np.flatnonzero(most >= 1 - LEFT_OUT).tolist()

    def limits(self, kind: int, rows: int, effect: float) -> tuple[Floats, Floats, Floats]:
        """(events,) as few rows more, and less, than its bounds as are worth to be worked out.

        And (subsets,) by how many rows the values of each must be beyond their limits in sum.
        """
        return self._limits(kind, rows, int(np.log(effect) / np.log(_STEP)))

    def _find_limits(self, kind: int, rows: int, level: int) -> tuple[Floats, Floats, Floats]:
        events = self.weigher.events
        needed = self.weigher.needed(np.array(allowance_of(kind, CYCLE))) - _FINEST
        least, effect = needed[self.group], _STEP**level
        grown = [
            each.least_grown(rows, float(needed[each.group] + each.nats) * effect)
            for each in self.subsets
        ]
        return (
            least_beyond(rows, events.highest, least * effect),
            least_beyond(rows, 1 - events.lowest, least * effect),
            np.array(grown),
        )

    @cached_property
    def early(self) -> Floats:
        """(cycles,) allowance of a stream's first row, after less cycles than a look-back has.

        Starts before the first row see the same rows as it, and the most generous of them counts.
        """
        found = np.zeros(DAY)
        for end in range(1, DAY):
            now = BEGIN + end * CYCLE
            starts = starts_at(buckets(0, end, 1), now - DAY * CYCLE, now, CYCLE)
            if starts.buckets.size and starts.buckets[0] == 0:
                found[end] = starts.allowances[0]
        return found


class _Stream:
    """The sums of a stream's tallies, so that those of a window are differences."""

    def __init__(self, of: Candidates, tallies: NDArray[np.int64], effects: Floats | None) -> None:
        self._of, self._events = of, of.weigher.events
        self._cycles = len(tallies)
        self._effects = np.ones(self._cycles + 1) if effects is None else effects
        self._summed = summed = np.zeros((self._cycles + 1, tallies.shape[1]), np.int64)
        np.cumsum(tallies, axis=0, out=summed[1:])
        _, trials = self._events.count(summed[-1])
        # Without missing values, each window has as many rows; else they have to be counted.
        whole = trials == self._events.rows(summed[-1])
        self._full, self._part = np.flatnonzero(whole), np.flatnonzero(~whole)
        # Differences of less than 65,536 are right however often the sums went round.
        short = summed.astype(np.uint16)
        plus, minus = self._events.plus[self._full], self._events.minus[self._full]
        self._whole = short.take(plus, axis=1) - short.take(minus, axis=1)
        events = self._part
        some = summed.take(self._events.plus[events], axis=1)
        some -= summed.take(self._events.minus[events], axis=1)
        self._many = summed.take(self._events.of_plus[events], axis=1)
        self._many -= summed.take(self._events.of_minus[events], axis=1)
        self._over = (some - self._many * self._events.highest[events]).astype(np.float32)
        self._under = (self._many * self._events.lowest[events] - some).astype(np.float32)
        if of.subsets:
            counted = [each.count(summed) for each in of.subsets]
            self._values = np.concatenate([values for values, _ in counted], axis=1)
            self._trials = np.stack([trials for _, trials in counted], axis=1)
            sizes = [len(each.shares) for each in of.subsets]
            self._first = np.cumsum([0, *sizes[:-1]])
            self._subset = np.repeat(np.arange(len(sizes)), sizes)
            signs = np.array([-1.0 if each.rare else 1.0 for each in of.subsets], np.float32)
            self._signs = signs[self._subset]
            self._shares = np.concatenate([each.shares for each in of.subsets]).astype(np.float32)
        shifts = [
            np.ascontiguousarray(each.count(summed) @ each.log_ratios.T)
            for each in of.weigher.shifts.values()
        ]
        self._ratios = np.concatenate([np.zeros((len(summed), 0)), *shifts], axis=1)

    def evidence(self, first: int) -> Iterator[Evidence]:
        """All that is worth to be worked out."""
        group_of = self._of.group
        ends = np.arange(first, min(DAY, self._cycles + 1))
        ends = ends[self._of.early[ends] > 0]
        needed = self._of.weigher.needed(self._of.early[ends])
        at, event = np.indices((ends.size, len(self._events.column))).reshape(2, -1)
        start = np.zeros(ends.size, np.int64)
        yield from self._of_events(start[at], ends[at], event, needed[at, group_of[event]])
        for one, subset in enumerate(self._of.subsets):
            yield self._of_values(start, ends, one, needed[:, subset.group])
        yield self._of_shifts(start, ends, needed[:, self._of.shift])
        for kind, starts in self._starts():
            hits, grown = [], []
            needed = self._of.weigher.needed(np.array(allowance_of(kind, CYCLE)))
            for age in range(1, min(FOLLOWED << kind, DAY + 1)):
                usable = starts[(starts + age <= self._cycles) & (starts + age >= first)]
                for begin in range(0, usable.size, _BLOCK):
                    some = usable[begin : begin + _BLOCK]
                    found = self._of_block(kind, some, age)
                    hits += found[0]
                    grown += found[1]
                    yield self._of_shifts(some, some + age, needed[self._of.shift])
            if hits:
                start, end, event = np.concatenate(hits, axis=1)
                yield from self._of_events(start, end, event, needed[group_of[event]])
            if grown:
                start, end, which = np.concatenate(grown, axis=1)
                for one, subset in enumerate(self._of.subsets):
                    at = np.flatnonzero(which == one)
                    yield self._of_values(start[at], end[at], one, needed[subset.group])

    def _starts(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Of each class; they lie at the same distance from each other."""
        zero = int(BEGIN.timestamp() // CYCLE.total_seconds())
        for kind in range(CLASSES):
            spacing, rarest = 1 << kind, kind == CLASSES - 1
            every = spacing if rarest else 2 * spacing
            yield kind, np.arange((-zero + (0 if rarest else spacing)) % every, self._cycles, every)

    def _of_block(
        self, kind: int, starts: NDArray[np.int64], age: int
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """From starts in equal distances, after one and the same time: starts, ends and what hit.

        That is events, and subsets.
        """
        ends = starts + age
        rows = age * self._of.rate
        effect = float(self._effects[ends].min())
        every = int(starts[1] - starts[0]) if starts.size > 1 else 1
        begun, ended = (slice(at[0], at[-1] + 1, every) for at in (starts, ends))
        over, under, grown = self._of.limits(kind, rows, effect)
        hits = [(self._beyond(begun, ended, rows, over, under), self._full)]
        if self._part.size:
            fewest = int((self._many[ended] - self._many[begun]).min())
            over, under, grown = self._of.limits(kind, _near(fewest), effect)
            more = self._over[ended] - self._over[begun]
            less = self._under[ended] - self._under[begun]
            beyond = more > (over[self._part] - _ROUNDING).astype(np.float32)
            beyond |= less > (under[self._part] - _ROUNDING).astype(np.float32)
            hits.append((beyond, self._part))
        found: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = [], []
        for beyond, events in hits:
            if beyond.any():
                at, event = np.nonzero(beyond)
                found[0].append(np.stack((starts[at], ends[at], events[event])))
        if grown.size:
            counts = (self._values[ended] - self._values[begun]).astype(np.float32)
            trials = (self._trials[ended] - self._trials[begun]).astype(np.float32)
            counts -= trials[:, self._subset] * self._shares
            counts *= self._signs
            np.maximum(counts, 0, out=counts)
            beyond = np.add.reduceat(counts, self._first, axis=1) > (grown - _ROUNDING)
            if beyond.any():
                at, which = np.nonzero(beyond)
                found[1].append(np.stack((starts[at], ends[at], which)))
        return found

    def _beyond(
        self, begun: slice, ended: slice, rows: int, over: Floats, under: Floats
    ) -> NDArray[np.bool_]:
        """Whether s is outside of (low, high): s - low - 1, without a sign, is large then."""
        high = np.ceil(rows * self._events.highest[self._full] + over[self._full])
        low = np.floor(rows * self._events.lowest[self._full] - under[self._full])
        high, low = np.minimum(high, rows + 1), np.maximum(low, -1)
        inside = self._whole[ended] - self._whole[begun]
        inside -= (low + 1).astype(np.uint16)
        found: NDArray[np.bool_] = inside >= (high - low - 1).astype(np.uint16)
        return found

    def _of_events(
        self,
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        event: NDArray[np.int64],
        needed: Floats,
    ) -> Iterator[Evidence]:
        """The likelihood ratios of some events."""
        events, group = self._events, self._of.group[event]

        def between(plus: NDArray[np.int64], minus: NDArray[np.int64]) -> Floats:
            late = self._summed[end, plus[event]] - self._summed[end, minus[event]]
            early = self._summed[start, plus[event]] - self._summed[start, minus[event]]
            return (late - early).astype(np.float64)

        s, n = between(events.plus, events.minus), between(events.of_plus, events.of_minus)
        for have, bound in ((s, events.highest[event]), (n - s, 1 - events.lowest[event])):
            excess = _gain(have, n, bound) / self._effects[end] - needed
            worth = (have > n * bound) & (excess >= -_FINEST)
            yield group[worth], end[worth], (excess + self._of.mean[event])[worth]

    def _of_values(
        self, start: NDArray[np.int64], end: NDArray[np.int64], one: int, needed: Floats | float
    ) -> Evidence:
        """The likelihood ratio of the values that are farthest beyond their limits together."""
        subset = self._of.subsets[one]
        of_subset = slice(self._first[one], self._first[one] + len(subset.shares))
        values, trials = self._values[:, of_subset], self._trials[:, one]
        counts = (values[end] - values[start]).astype(np.float64)
        n = (trials[end] - trials[start]).astype(np.float64)
        apart = counts - n[:, None] * subset.shares
        chosen = apart < 0 if subset.rare else apart > 0
        inside = np.where(chosen, counts, 0.0).sum(axis=1)
        bound = np.where(chosen, subset.shares, 0.0).sum(axis=1) + subset.tolerance
        bound = np.minimum(bound, 1.0)
        if subset.rare:
            inside, bound = n - inside, 1 - bound
        excess = _gain(inside, n, bound) / self._effects[end] - subset.nats - needed
        worth = (inside > n * bound) & (excess >= -_FINEST)
        return np.full(int(worth.sum()), subset.group), end[worth], excess[worth] - np.log(2)

    def _of_shifts(
        self, start: NDArray[np.int64], end: NDArray[np.int64], needed: Floats
    ) -> Evidence:
        """The likelihood ratios of shifts: needed is (shifts,) or (starts, shifts)."""
        excess = self._ratios[end] - self._ratios[start]
        excess /= self._effects[end][:, np.newaxis]
        excess -= needed + self._of.shift_nats
        at, shift = np.nonzero(excess >= -_FINEST)
        return self._of.shift[shift], end[at], excess[at, shift]


def _near(rows: int) -> int:
    """Not more rows, and few such numbers: limits are kept for each."""
    step = 1 << max(rows.bit_length() - 6, 0)
    return rows // step * step


def least_beyond(rows: int, bound: Floats, least: Floats) -> Floats:
    """So many rows more than n * bound are needed for a likelihood ratio of as much, or more.

    That is, for any n from `rows` on: the more rows, the more of them. Where not even all of them
    are enough, it is what the first number of rows needs of which all are; inf: no number does.
    """
    low, high = np.zeros(bound.shape), rows * (1 - bound)
    many = np.full(bound.shape, float(rows))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = _gain(rows * bound + middle, many, bound) >= least
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = least / -np.log(bound)
        found = np.where(first <= rows, low, first * (1 - bound))
        return np.where(bound < 1, found, np.inf)


def _gain(s: Floats, n: Floats, p: Floats) -> Floats:
    """N KL(s/n, p)."""
    found: Floats = rel_entr(s, n * p) + rel_entr(n - s, n * (1 - p))
    return found
