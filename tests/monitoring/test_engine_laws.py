"""Whatever happens between cycles, every row in the look-back counts once, for every monitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from monitoring_place import Place, draw, store_model

from monitorkit.config import Config
from monitorkit.contracts import Chunk, Finding
from monitorkit.errors import ModelNotFound, PluginError
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.protocol import Absorbed, Case
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.monitoring.scratch import scratch
from monitorkit.monitoring.store import FILE
from monitorkit.reference import Reference

Step = tuple[str, dict[str, Any]]

LOOKBACK, BUCKET, RESOLUTION = timedelta(hours=1), timedelta(minutes=1), 4
NAMES = ("rows", "frail", "feature-drift", "twin", "sure")
MONITORS = [
    {"name": "rows", "use": "bad", "options": {"how": "none"}},
    {"name": "frail", "use": "bad", "options": {"at": "summarise", "how": "raise"}},
    {"name": "feature-drift", "use": "ks"},
    {"name": "twin", "use": "psi"},  # shares its summaries with feature-drift
    {"name": "sure", "use": "anytime_drift"},  # so does this one, and it looks at single buckets
]


class Cycles:
    """Two processes take turns at one log; the model of it is a list of its rows."""

    def __init__(self, here: Place, unknown: set[str], minute: float) -> None:
        self.here = here
        self.unknown = unknown
        self.unknown.clear()
        self.was_unknown = False
        # Any minute of an hour: which buckets there are depends on it.
        self.now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        self.appended = 0
        self.rows: list[tuple[str, datetime]] = []
        self.current: list[tuple[str, datetime]] = []
        self.closed: list[tuple[Path, list[tuple[str, datetime]]]] = []
        self.healed = here.folder / "healed"
        self.healed.touch()
        (here.config.storage.state / FILE).unlink(missing_ok=True)
        for path in here.config.storage.predictions.glob("*"):
            path.unlink()
        self.engines = [LocalEngine(here.config), LocalEngine(here.config)]

    def append(self, count: int, version: str, ago: int, spacing: float) -> None:
        """Rows come, some of them late."""
        ends = self.now - timedelta(minutes=ago)
        self.here.append(draw(count, seed=count), version=version, ends=ends, seconds=spacing)
        step = timedelta(seconds=spacing)
        self.current += [(version, ends - step * (count - 1 - n)) for n in range(count)]
        self.rows += self.current[-count:]
        self.appended += 1

    def wait(self, minutes: int) -> None:
        """Time goes on."""
        self.now += timedelta(minutes=minutes)

    def rotate(self) -> None:
        """The service closes a segment."""
        if self.current:
            folder = self.here.config.storage.predictions
            path = folder / f"predictions-20260101T000000.{len(self.closed):06d}Z.csv"
            (folder / "predictions.csv").rename(path)
            self.closed.append((path, self.current))
            self.current = []

    def behead(self, closed: bool) -> None:
        """Somebody deletes the first row of a segment, which is what it is known by."""
        path, rows = self.here.config.storage.predictions / "predictions.csv", self.current
        if closed:
            path, rows = self.closed[-1] if self.closed else (path, [])
        if path.exists() and len(rows) > 1:
            head, _, *others = path.read_bytes().splitlines(keepends=True)
            path.unlink()
            path.write_bytes(b"".join([head, *others]))
            self.rows.remove(rows.pop(0))

    def tidy(self) -> None:
        """Somebody deletes the segments in which every row is too old to count."""
        for path, rows in self.closed:
            if all(when < self.now - LOOKBACK - BUCKET for _, when in rows):
                path.unlink(missing_ok=True)

    def restart(self, which: int) -> None:
        """A process ends and starts again."""
        self.engines[which] = LocalEngine(self.here.config)

    def lose_timeline(self, damaged: bool) -> None:
        """The cache is deleted, or is not what was written."""
        path = self.here.config.storage.state / FILE
        if damaged and path.exists():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        else:
            path.unlink(missing_ok=True)

    def fall_ill(self, heal: bool) -> None:
        """One monitor cannot sum up, for a while."""
        if heal:
            self.healed.touch()
        else:
            self.healed.unlink(missing_ok=True)

    def lose_model(self, known: bool) -> None:
        """A model version cannot be had, for a while."""
        if known:
            self.unknown.clear()
        else:
            self.unknown.add("2")
            self.was_unknown = True

    def interrupted(self, which: int, names: list[str], slices: int) -> None:
        """A cycle is given up after some slices."""
        for _ in range(slices):
            self._absorb(which, names, seconds=-1.0)

    def cycle(self, which: int, names: list[str], sliced: bool) -> None:
        """Every monitor that took part has counted every row, and none twice."""
        absorbed = self._whole(which, names, sliced)
        if absorbed is None:
            return
        version = absorbed.window.model_version
        assert version == self._newest()
        expected = self._expected(version)
        assert absorbed.window.rows == expected
        assert set(absorbed.failures) <= ({"frail"} if not self.healed.exists() else set())
        if version is None or not expected:
            return
        for name in names:
            if name not in absorbed.failures:
                assert self._judged(which, name, version, names) == expected

    def agree(self) -> None:
        """Whatever they went through, they find what a process does that knows nothing."""
        newest = self._newest()
        if newest is None:
            return
        found = [self._findings(engine, newest) for engine in self.engines]
        with scratch(self.here.config) as config:
            expected = self._findings(LocalEngine(config), newest)
        assert found == [expected, expected]

    def _findings(self, engine: LocalEngine, version: str) -> dict[str, Sequence[Finding]]:
        absorbed = engine.absorb(NAMES, self.now)
        cases = [
            Case(name, version, self.now, (), absorbed.cursor, reports=False) for name in NAMES
        ]
        return {case.monitor: tuple(engine.judge(case).findings) for case in cases}

    def _absorb(self, which: int, names: list[str], seconds: float | None) -> Absorbed | None:
        try:
            return self.engines[which].absorb(names, self.now, seconds=seconds)
        except ModelNotFound:
            assert self._newest() in self.unknown
            return None

    def _whole(self, which: int, names: list[str], sliced: bool) -> Absorbed | None:
        failures: dict[str, str] = {}
        # A slice reads a block at least; blocks end with an append, and each track may read alone.
        for _ in range((self.appended + 1) * (len(NAMES) + 2)):
            taking_part = [name for name in names if name not in failures]
            absorbed = self._absorb(which, taking_part, -1.0 if sliced else None)
            if absorbed is None:
                return None
            failures.update(absorbed.failures)
            if not absorbed.more:
                return replace(absorbed, failures=failures)
        pytest.fail("reading never ends")

    def _judged(self, which: int, name: str, version: str, names: list[str]) -> float | None:
        engine = self.engines[which]
        cursor = engine.absorb([], self.now).cursor
        try:
            judgement = engine.judge(Case(name, version, self.now, (), cursor, reports=False))
        except PluginError:
            # A version that can be judged again makes a track start over, one cycle late.
            if not self.was_unknown:
                raise
            cursor = engine.absorb(names, self.now).cursor
            judgement = engine.judge(Case(name, version, self.now, (), cursor, reports=False))
        if name in ("rows", "frail"):
            return judgement.findings[0].value
        found = next(f for f in judgement.findings if f.column == "age")
        rows = found.detail.get("rows", found.detail.get("window_rows"))
        assert rows is None or isinstance(rows, int)
        return rows if rows is not None else self._expected(version)

    def _newest(self) -> str | None:
        """The version of the latest row that is in the look-back."""
        inside = [(when, of) for of, when in self.rows if self._is_inside(when)]
        return max(inside, default=(self.now, None))[1]

    def _expected(self, version: str | None) -> int:
        return sum(of == version and self._is_inside(when) for of, when in self.rows)

    def _is_inside(self, when: datetime) -> bool:
        """Whether the bucket of a row begins in the look-back: the longest that is old enough."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        step, now = (when - epoch) // BUCKET, (self.now - epoch) // BUCKET
        start = step
        for length in (2**level for level in range(1, 12)):
            longer = step - step % length
            allowed = RESOLUTION * length * BUCKET <= LOOKBACK
            if allowed and longer + length <= now - RESOLUTION * length:
                start = longer
        return epoch + start * BUCKET >= self.now - LOOKBACK


def step(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """A method of Cycles with its arguments."""
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


SOME = st.lists(st.sampled_from(NAMES), unique=True, min_size=1)
WHICH = st.integers(0, 1)
# Twice as often as the others: as objects of their own, for hypothesis asks each only once.
APPEND = [
    step(
        "append",
        count=st.sampled_from([1, 2, 3, 4, 250]),
        version=st.sampled_from(["1", "1", "2"]),
        ago=st.sampled_from([0, 0, 0, 1, 30, 59, 61, 200]),
        spacing=st.sampled_from([0.001, 7.0, 61.0]),
    )
    for _ in range(2)
]
CYCLE = [step("cycle", which=WHICH, names=SOME, sliced=st.booleans()) for _ in range(2)]
STEPS = st.one_of(
    *APPEND,
    *CYCLE,
    step("interrupted", which=WHICH, names=SOME, slices=st.integers(1, 3)),
    step("wait", minutes=st.sampled_from([1, 3, 10, 45, 180])),
    step("rotate"),
    step("behead", closed=st.booleans()),
    step("tidy"),
    step("restart", which=WHICH),
    step("lose_timeline", damaged=st.booleans()),
    step("fall_ill", heal=st.booleans()),
    step("lose_model", known=st.booleans()),
)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=10, max_size=30), minute=st.floats(0, 60))
@example(
    # All rows are in a bucket that begins in the look-back, and then in a longer one that does not.
    steps=[
        ("append", {"count": 1, "version": "1", "ago": 0, "spacing": 1.0}),
        ("cycle", {"which": 0, "names": ["rows"], "sliced": False}),
        ("wait", {"minutes": 45}),
        ("wait", {"minutes": 10}),
        ("cycle", {"which": 0, "names": ["rows"], "sliced": False}),
    ],
    minute=5.5,
)
def test_every_row_counts_once(
    steps: list[Step], minute: float, here: Place, unknown: set[str]
) -> None:
    cycles = Cycles(here, unknown, minute)
    for name, arguments in steps:
        getattr(cycles, name)(**arguments)
    # However it went, in the end everybody recovers.
    cycles.fall_ill(heal=True)
    cycles.lose_model(known=True)
    for which in (0, 1):
        cycles.cycle(which, list(NAMES), sliced=False)
    cycles.agree()


@pytest.fixture
def here(place: Callable[..., Place]) -> Place:
    made = place(
        monitors=MONITORS, monitoring={"lookback": "1h", "bucket": "1m", "resolution": RESOLUTION}
    )
    store_model(made.config, "2")
    return made


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The model versions that cannot be had at the moment."""
    versions: set[str] = set()

    def scored(config: Config, reference: Reference, version: str) -> Chunk:
        if version in versions:
            raise ModelNotFound(f"version {version}", "Wait.")
        return scored_reference(config, reference, version)

    monkeypatch.setattr("monitorkit.monitoring.scoring.scored_reference", scored)
    return versions
