"""A past: rows that came, and cycles that were recorded, at times of the test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from monitoring_place import Place, draw

from monitorkit import results
from monitorkit.config import Config
from monitorkit.contracts import RunResult, Skipped, Trigger
from monitorkit.monitoring.comparison import Compared
from monitorkit.monitoring.cycle import Moment, Selection, _newest_first, judge
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.instants import Span, plan
from monitorkit.monitoring.ladder import longest_lookback
from monitorkit.monitoring.protocol import Engine
from monitorkit.monitoring.replay import EngineAside, Replayed, replay
from monitorkit.monitoring.reports import Reports
from monitorkit.monitoring.scratch import scratch
from monitorkit.results import new_run_id

ALL = Selection()
MINUTE = timedelta(minutes=1)
Beside = list[tuple[Compared, Replayed]]


def start(hours: float = 6) -> datetime:
    """A whole hour, so many hours ago at least."""
    whole = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return whole - timedelta(hours=hours)


@dataclass
class History:
    """What happened at a place."""

    here: Place
    begin: datetime
    engine: LocalEngine = field(init=False)
    found: list[RunResult | Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The worker ends, and another one begins."""
        self.engine = LocalEngine(self.here.config)

    def at(self, minutes: float) -> datetime:
        """So many minutes after the beginning."""
        return self.begin + minutes * MINUTE

    def rows(
        self,
        count: int,
        *,
        until: float,
        seed: int = 0,
        version: str = "1",
        shift: tuple[float, float, float] = (0, 0, 0),
        seconds: float = 0.5,
    ) -> None:
        """Rows come, the last of them so many minutes after the beginning."""
        features = draw(count, seed=abs(seed + round(until)), shift=shift)
        self.here.append(features, version=version, ends=self.at(until), seconds=seconds)

    def rotate(self) -> None:
        """The service closes the segment."""
        folder = self.here.config.storage.predictions
        number = len(list(folder.glob("predictions-*.csv")))
        name = f"predictions-20260101T000000.{number:06d}Z.csv"
        (folder / "predictions.csv").rename(folder / name)

    def cycle(
        self,
        minutes: float,
        *,
        record: bool = True,
        trigger: Trigger = "periodic",
        selection: Selection = ALL,
    ) -> RunResult | Skipped:
        """A live cycle, but for the clock."""
        kept = self.here.results
        newest = next(reversed(kept.run_ids()), None)
        run_id = new_run_id(self.at(minutes), after=newest)
        outcome = judge(
            self.here.config,
            self.engine,
            Moment(self.at(minutes), run_id, trigger, _newest_first(kept, kept.run_ids())),
            selection=selection,
            store=Reports(self.here.config.storage.reports),
        )
        if record and isinstance(outcome, RunResult):
            kept.commit(outcome)
        self.found.append(outcome)
        return outcome

    def replay(
        self,
        *,
        config: Config | None = None,
        since: float | None = None,
        until: float | None = None,
        selection: Selection = ALL,
        engine: EngineAside | None = None,
    ) -> Beside:
        """Everything once more."""
        config = config or self.here.config
        present = datetime.now(UTC)
        span = Span(
            since=None if since is None else self.at(since),
            until=present if until is None else self.at(until),
            present=present,
        )
        todo = plan(config, self.here.results, span, longest_lookback(config))
        found = list(replay(config, selection, todo, engine or local_engine))
        assert len(found) == len(todo)
        return found


@contextmanager
def local_engine(config: Config) -> Iterator[tuple[Config, Engine]]:
    """As `scratch_engine`, in this process."""
    with scratch(config) as aside:
        yield aside, LocalEngine(aside)


def essence(outcome: Replayed) -> object:
    """All of an outcome that must be the same, as it reads from JSON."""
    if not isinstance(outcome, RunResult):
        return outcome
    again = results.decode(results.encode(outcome))
    outcomes = tuple(replace(part, seconds=0.0, reports=()) for part in again.outcomes)
    return replace(again, run_id="", finished_at=again.started_at, cursor={}, outcomes=outcomes)
