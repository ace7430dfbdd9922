"""Rules in one line, such as `share(age < 21) < 0.01`: what must hold of every window."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from monitorkit import (
    SCORE_COLUMN,
    Chunk,
    Finding,
    Judgement,
    Monitor,
    Options,
    Timeline,
    hookimpl,
)
from monitorkit.errors import PluginError
from monitorkit.exact_sums import added, mean, packed, total, unpacked
from monitorkit.rule_language import (
    Call,
    Column,
    Node,
    Number,
    Operation,
    Reference,
    Rule,
    Unary,
    nodes,
    parse,
)

SCORE = "score"
"""The model's score in a rule, unless a feature has that name."""

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ON_ROWS = {**_ARITHMETIC, **_COMPARE, "and": operator.and_, "or": operator.or_}
_RELATIVE = {
    "<": "<= 2 * reference",
    "<=": "<= 2 * reference",
    ">": ">= 0.5 * reference",
    ">=": ">= 0.5 * reference",
    "==": "== reference",
    "!=": "<= reference",
}
_RELATIVE_BELOW_ZERO = _RELATIVE | {
    "<": "<= 0.5 * reference",
    "<=": "<= 0.5 * reference",
    ">": ">= 2 * reference",
    ">=": ">= 2 * reference",
}


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _parsed(rules: tuple[str, ...]) -> tuple[str, ...]:
    for text in rules:
        parse(text)
    if repeated := sorted({text for text in rules if rules.count(text) > 1}):
        raise ValueError(f"the rule {repeated[0]!r} is there twice; remove one")
    return rules


class RuleOptions(Options):
    """Options.

    Attributes:
        rule: one rule or several; each says what must hold (see `monitorkit.rule_language`).
    """

    rule: Annotated[
        tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1), AfterValidator(_parsed)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the functions in the rules need of some rows, all of it exact.

    Attributes:
        rows: all rows.
        counts: (functions,) int64: rows for which the condition of `share` or `count` holds, rows
            without a value for `missing`, rows with a finite value for the others.
        sums: (means, 288) uint8: exact sums, for each `mean` in the order of the functions.
        ends: (functions,) the smallest or largest finite value for `min` and `max`; NaN: none.
    """

    rows: int
    counts: NDArray[np.int64]
    sums: NDArray[np.uint8]
    ends: NDArray[np.float64]


class RuleMonitor(Monitor[RuleOptions, Measured]):
    """One finding per rule: what its left side is, its right side as threshold, drift = broken."""

    options_type = RuleOptions

    def __init__(self, options: RuleOptions, reference: Chunk) -> None:
        super().__init__(options, reference)
        self._rules = [parse(text) for text in options.rule]
        for rule in self._rules:
            _check_columns(rule, reference.columns)
        everywhere = [
            node for rule in self._rules for side in (rule.left, rule.right) for node in nodes(side)
        ]
        # Each function once, however many rules have it.
        self._calls = list(dict.fromkeys(node for node in everywhere if isinstance(node, Call)))
        self._means = [call for call in self._calls if call.function == "mean"]
        self._of_reference = self.summarise(reference)

    def summarise(self, chunk: Chunk) -> Measured:
        """Count and sum up, function by function."""
        counts = np.zeros(len(self._calls), np.int64)
        ends = np.full(len(self._calls), np.nan)
        sums = []
        for place, call in enumerate(self._calls):
            if call.argument is None:
                counts[place] = len(chunk)
                continue
            # Outliers may overflow and zeros divide: such a row has no value.
            with np.errstate(all="ignore"):
                found = np.broadcast_to(_of_rows(call.argument, chunk), (len(chunk),))
            if call.function in {"share", "count"}:
                counts[place] = np.count_nonzero(found)
                continue
            if call.function == "missing":
                counts[place] = np.count_nonzero(np.isnan(found))
                continue
            finite = found[np.isfinite(found)]
            counts[place] = finite.size
            if call.function == "mean":
                sums.append(total(finite))
            elif finite.size:
                ends[place] = finite.min() if call.function == "min" else finite.max()
        return Measured(len(chunk), counts, packed(sums), ends)

    def merge(self, left: Measured, right: Measured) -> Measured:
        """Add up; the smaller of the smallest, the larger of the largest."""
        smallest = np.array([call.function == "min" for call in self._calls])
        ends = np.where(smallest, np.fmin(left.ends, right.ends), np.fmax(left.ends, right.ends))
        return Measured(
            left.rows + right.rows, left.counts + right.counts, added(left.sums, right.sums), ends
        )

    def judge(self, timeline: Timeline[Measured], previous: Sequence[Finding]) -> Judgement:
        """Drift where a rule is broken that the reference keeps."""
        window = timeline.all()
        if window is None or not window.rows:
            return Judgement([])
        broken = {finding.measure: finding.since for finding in previous if finding.drift}
        return Judgement(
            [
                self._finding(rule, window, broken.get(rule.text) or timeline.now)
                for rule in self._rules
            ]
        )

    def _finding(self, rule: Rule, window: Measured, since: datetime) -> Finding:
        of_reference = self._value(rule.left, self._of_reference, None)
        value = self._value(rule.left, window, None)
        limit = self._value(rule.right, window, of_reference)
        holds_there = self._holds(rule, self._of_reference, of_reference)
        holds = self._holds(rule, window, of_reference)
        drift: bool | None = None
        if holds is None:
            side = "left" if value is None else "right"
            says = f"not judged: the {side} side has no value in this window"
        elif holds_there is None:
            says = "not judged: the rule has no value on the reference"
        elif not holds_there:
            below = of_reference is not None and of_reference < 0
            limits = _RELATIVE_BELOW_ZERO if below else _RELATIVE
            says = (
                f"not judged: the reference itself breaks it ({_short(of_reference)}); "
                f"choose another limit, such as `{limits[rule.sign]}`"
            )
        else:
            drift = not holds
            says = f"{'broken' if drift else 'kept'}: {_short(value)}, and it must be "
            says += f"{rule.sign} {_short(limit)} ({_short(of_reference)} in the reference)"
        columns = {node.name for node in nodes(rule.left) if isinstance(node, Column)}
        return Finding(
            rule.text,
            value,
            column=self._shown(columns.pop()) if len(columns) == 1 else None,
            statistic="left side of the rule",
            threshold=limit,
            drift=drift,
            since=since if drift else None,
            detail={
                "rule": rule.text,
                "says": says,
                "reference": of_reference,
                "rows": window.rows,
                "reference_rows": self._of_reference.rows,
            },
        )

    def _shown(self, column: str) -> str:
        """A column as findings have it."""
        return column if column in self.reference.columns else SCORE_COLUMN

    def _holds(self, rule: Rule, rows: Measured, of_reference: float | None) -> bool | None:
        """Whether a rule holds of some rows; None when a side has no value."""
        left = self._value(rule.left, rows, None)
        right = self._value(rule.right, rows, of_reference)
        if left is None or right is None:
            return None
        return bool(_COMPARE[rule.sign](left, right))

    def _value(self, node: Node, rows: Measured, of_reference: float | None) -> float | None:
        """A side of a rule; None when there is nothing to measure, or no finite number."""
        match node:
            case Number(value):
                return value
            case Reference():
                return of_reference
            case Call():
                return self._measured(node, rows)
            case Unary(_, operand):
                inner = self._value(operand, rows, of_reference)
                return None if inner is None else -inner
            case Operation(sign, left, right):
                one = self._value(left, rows, of_reference)
                other = self._value(right, rows, of_reference)
                if one is None or other is None or (sign == "/" and other == 0):
                    return None
                found = float(_ARITHMETIC[sign](one, other))
                return found if math.isfinite(found) else None
        raise AssertionError(node)  # the parser lets no column stand here

    def _measured(self, call: Call, rows: Measured) -> float | None:
        place = self._calls.index(call)
        count = int(rows.counts[place])
        match call.function:
            case "count":
                return float(count)
            case "share" | "missing":
                return count / rows.rows if rows.rows else None
            case "mean":
                sum_ = unpacked(rows.sums)[self._means.index(call)]
                return mean(sum_, count) if count else None
        return float(rows.ends[place]) if count else None


def _of_rows(node: Node, chunk: Chunk) -> Any:
    """Row by row: numbers (NaN: no value), or whether a condition holds."""
    found: Any
    match node:
        case Number(value):
            found = np.float64(value)
        case Column(name) if name in chunk.columns:
            found = chunk.features[:, chunk.columns.index(name)]
        case Column(name) if name == SCORE:
            found = chunk.scores
        case Unary(sign, operand):
            inner = _of_rows(operand, chunk)
            found = -inner if sign == "-" else ~inner
        case Operation(sign, left, right):
            one, other = _of_rows(left, chunk), _of_rows(right, chunk)
            found = _ON_ROWS[sign](one, other)
            if sign in _COMPARE:
                # Without a value no comparison holds, not even `!=`.
                found = found & ~np.isnan(one) & ~np.isnan(other)
        case _:
            raise AssertionError(node)  # the parser lets nothing else stand here
    return found


def _check_columns(rule: Rule, features: Sequence[str]) -> None:
    """Refuse a column that there is not.

    Raises:
        PluginError: naming it, its position, and the nearest ones.
    """
    known = [*features, *([] if SCORE in features else [SCORE])]
    for node in (*nodes(rule.left), *nodes(rule.right)):
        if isinstance(node, Column) and node.name not in known:
            near = difflib.get_close_matches(node.name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            if node.name == SCORE_COLUMN:
                hint = f"the model's score is {SCORE!r}"
            problem = f"rule {rule.text!r}, position {node.position}: there is no column"
            raise PluginError("rule", f"{problem} {node.name!r}; {hint}")


def _short(value: float | None) -> str:
    return "no value" if value is None else f"{value:.6g}"


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `rule`."""
    return {"rule": RuleMonitor}
