"""What a cycle asks of an engine, and what it may get back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from monitorkit import judgements
from monitorkit.contracts import Finding, Judgement, Window
from monitorkit.errors import PluginError
from monitorkit.prediction_log import Cursor


@dataclass(frozen=True, slots=True)
class Absorbed:
    """Where the timeline stands after reading what is new in the log.

    Attributes:
        window: the newest model version's rows in the look-back.
        cursor: up to where the log was read.
        reference_hash: of the reference, verified in this call.
        failures: monitors that could not sum up their rows, with the reason.
        rows_read: rows that were new.
        more: time was up before the end of the log; call again.
    """

    window: Window
    cursor: Mapping[str, int]
    reference_hash: str
    failures: Mapping[str, str]
    rows_read: int
    more: bool


@dataclass(frozen=True, slots=True)
class Case:
    """What one monitor is asked to judge.

    Attributes:
        monitor: its name.
        version: of the model whose rows are judged.
        now: the end of the window.
        previous: the monitor's findings in the last result.
        cursor: where `Engine.absorb` said that its summaries stand.
        reports: make the reports that are not made at every cycle.
    """

    monitor: str
    version: str
    now: datetime
    previous: Sequence[Finding]
    cursor: Mapping[str, int]
    reports: bool


class Engine(Protocol):
    """What a cycle asks of the place where monitors run."""

    def absorb(
        self, names: Sequence[str], now: datetime, *, until: Cursor | None = None
    ) -> Absorbed:
        """Bring the tracks of some monitors up to the end of the log, or up to a cursor in it."""

    def judge(self, case: Case) -> Judgement:
        """Let one monitor judge its window."""


def checked(name: str, judgement: object) -> Judgement:
    """Refuse what could not be written into a result.

    Raises:
        PluginError: naming the monitor and what is wrong with its judgement.
    """
    problem = judgements.why_not(judgement)
    if problem is not None:
        raise PluginError(name, problem)
    return cast(Judgement, judgement)
