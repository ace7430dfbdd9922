"""Whatever happens between cycles, every row in the look-back counts once, for every monitor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from monitoring_place import Place, draw, store_model

from monitorkit.config import Config
from monitorkit.contracts import Chunk
from monitorkit.errors import ModelNotFound, PluginError
from monitorkit.monitoring import engine as engine_module
from monitorkit.monitoring.engine import CHECKPOINT, Absorbed, LocalEngine
from monitorkit.monitoring.timeline import bucket_number
from monitorkit.reference import Reference

LOOKBACK, BUCKET = timedelta(hours=1), timedelta(minutes=1)
NAMES = ("rows", "frail", "feature-drift", "twin")
MONITORS = [
    {"name": "rows", "use": "bad", "options": {"how": "none"}},
    {"name": "frail", "use": "bad", "options": {"at": "summarise", "how": "raise"}},
    {"name": "feature-drift", "use": "ks"},
    {"name": "twin", "use": "psi"},  # shares its summaries with feature-drift
]
SETTINGS = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class Cycles(RuleBasedStateMachine):
    """Two processes take turns at one log; the model of it is a list of its rows."""

    def __init__(self, here: Place, unknown: set[str]) -> None:
        super().__init__()
        self.here = here
        self.unknown = unknown
        self.unknown.clear()
        self.was_unknown = False
        self.now = datetime.now(UTC)
        self.rows: list[tuple[str, datetime]] = []
        self.current: list[tuple[str, datetime]] = []
        self.closed: list[tuple[Path, list[tuple[str, datetime]]]] = []
        self.healed = here.folder / "healed"
        self.healed.touch()
        (here.config.storage.state / CHECKPOINT).unlink(missing_ok=True)
        for path in here.config.storage.predictions.glob("*"):
            path.unlink()
        self.engines = [LocalEngine(here.config), LocalEngine(here.config)]

    @rule(
        count=st.integers(1, 4),
        version=st.sampled_from(["1", "1", "2"]),
        ago=st.sampled_from([0, 0, 1, 30, 59, 61, 200]),
        spacing=st.sampled_from([0.001, 7.0, 61.0]),
    )
    def append(self, count: int, version: str, ago: int, spacing: float) -> None:
        """Rows come, some of them late."""
        ends = self.now - timedelta(minutes=ago)
        self.here.append(draw(count, seed=count), version=version, ends=ends, seconds=spacing)
        step = timedelta(seconds=spacing)
        self.current += [(version, ends - step * (count - 1 - n)) for n in range(count)]
        self.rows += self.current[-count:]

    @rule(minutes=st.sampled_from([1, 10, 45, 180]))
    def wait(self, minutes: int) -> None:
        """Time goes on."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def rotate(self) -> None:
        """The service closes a segment."""
        if self.current:
            folder = self.here.config.storage.predictions
            path = folder / f"predictions-20260101T000000.{len(self.closed):06d}Z.csv"
            (folder / "predictions.csv").rename(path)
            self.closed.append((path, self.current))
            self.current = []

    @rule()
    def tidy(self) -> None:
        """Somebody deletes the segments in which every row is too old to count."""
        if not self.current:
            return  # the newest row says which version is judged
        for path, rows in self.closed:
            if all(when < self.now - LOOKBACK - BUCKET for _, when in rows):
                path.unlink(missing_ok=True)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        """A process ends and starts again."""
        self.engines[which] = LocalEngine(self.here.config)

    @rule(damaged=st.booleans())
    def lose_checkpoint(self, damaged: bool) -> None:
        """The cache is deleted, or is not what was written."""
        path = self.here.config.storage.state / CHECKPOINT
        if damaged and path.exists():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        else:
            path.unlink(missing_ok=True)

    @rule(heal=st.booleans())
    def fall_ill(self, heal: bool) -> None:
        """One monitor cannot sum up, for a while."""
        if heal:
            self.healed.touch()
        else:
            self.healed.unlink(missing_ok=True)

    @rule(known=st.booleans())
    def lose_model(self, known: bool) -> None:
        """A model version cannot be had, for a while."""
        if known:
            self.unknown.clear()
        else:
            self.unknown.add("2")
            self.was_unknown = True

    @rule(
        which=st.integers(0, 1),
        names=st.lists(st.sampled_from(NAMES), unique=True),
        slices=st.integers(0, 3),
    )
    def interrupted(self, which: int, names: list[str], slices: int) -> None:
        """A cycle is given up after some slices."""
        for _ in range(slices):
            self._absorb(which, names, seconds=-1.0)

    @rule(
        which=st.integers(0, 1),
        names=st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
        sliced=st.booleans(),
    )
    def cycle(self, which: int, names: list[str], sliced: bool) -> None:
        """Every monitor that took part has counted every row, and none twice."""
        absorbed = self._whole(which, names, sliced)
        if absorbed is None:
            return
        version = absorbed.window.model_version
        assert version == (self.rows[-1][0] if self.rows else None)
        expected = self._expected(version)
        assert absorbed.window.rows == expected
        assert set(absorbed.failures) <= ({"frail"} if not self.healed.exists() else set())
        if version is None or not expected:
            return
        for name in names:
            if name not in absorbed.failures:
                assert self._judged(which, name, version, names) == expected

    def _absorb(self, which: int, names: list[str], seconds: float | None) -> Absorbed | None:
        try:
            return self.engines[which].absorb(names, self.now, seconds=seconds)
        except ModelNotFound:
            assert self.rows[-1][0] in self.unknown
            return None

    def _whole(self, which: int, names: list[str], sliced: bool) -> Absorbed | None:
        failures: dict[str, str] = {}
        deadline = time.monotonic() + 10
        while True:
            taking_part = [name for name in names if name not in failures]
            absorbed = self._absorb(which, taking_part, -1.0 if sliced else None)
            if absorbed is None:
                return None
            failures.update(absorbed.failures)
            if not absorbed.more:
                return replace(absorbed, failures=failures)
            assert time.monotonic() < deadline, "reading never ends"

    def _judged(self, which: int, name: str, version: str, names: list[str]) -> float | None:
        engine = self.engines[which]
        try:
            judgement = engine.judge(name, version, self.now, (), reports=False)
        except PluginError:
            # A version that can be judged again makes a track start over, one cycle late.
            if not self.was_unknown:
                raise
            engine.absorb(names, self.now)
            judgement = engine.judge(name, version, self.now, (), reports=False)
        if name in ("rows", "frail"):
            return judgement.findings[0].value
        found = next(f for f in judgement.findings if f.column == "age")
        rows = found.detail.get("rows", found.detail.get("window_rows"))
        assert rows is None or isinstance(rows, int)
        return rows if rows is not None else self._expected(version)

    def _expected(self, version: str | None) -> int:
        first = bucket_number(self.now - LOOKBACK, BUCKET)
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return sum(of == version and (when - epoch) // BUCKET >= first for of, when in self.rows)


@pytest.mark.slow
def test_every_row_counts_once(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(monitors=MONITORS, monitoring={"lookback": "1h", "bucket": "1m"})
    store_model(here.config, "2")
    unknown: set[str] = set()
    real = engine_module.scored_reference

    def scored(config: Config, reference: Reference, version: str) -> Chunk:
        if version in unknown:
            raise ModelNotFound(f"version {version}", "Wait.")
        return real(config, reference, version)

    monkeypatch.setattr(engine_module, "scored_reference", scored)
    run_state_machine_as_test(lambda: Cycles(here, unknown), settings=SETTINGS)
