"""A version's number may be another model's by now: of a registry that was filled again, say."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
import stored_model
from monitoring_place import SCHEMA, Place, draw
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from structlog.testing import capture_logs

from monitorkit import model, model_store, reference
from monitorkit.contracts import RunResult
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.prediction_log.rows import Formatter, Prediction, header
from monitorkit.schema import Feature, FeatureSchema

Make = Callable[..., Place]
MONITORS = [
    {"name": "proxy", "use": "proxy_metrics"},
    {"name": "ks", "use": "ks"},
    {"name": "range", "use": "missing_and_range"},
    {"name": "house", "use": "rule", "options": {"rule": "mean(late) < 100"}},
]


def logged_before(here: Place, names: Sequence[str], rows: NDArray[np.float64]) -> None:
    """Rows of version 1 in a closed segment with these columns, of an hour ago."""
    folder = here.config.storage.predictions
    folder.mkdir(parents=True, exist_ok=True)
    schema = FeatureSchema(tuple(Feature(name, nullable=True) for name in names))
    begin = datetime.now(UTC) - timedelta(hours=1)
    times = [begin + timedelta(milliseconds=number) for number in range(len(rows))]
    lines = [
        Prediction(str(uuid4()), f"{time:%Y-%m-%dT%H:%M:%S.%fZ}", "1", 1, 0.75, row)
        for time, row in zip(times, rows.tolist(), strict=True)
    ]
    path = folder / f"predictions-{begin:%Y%m%dT%H%M%S.%fZ}.csv"
    path.write_bytes(header(schema.names) + Formatter(schema).lines(lines))


def cycle(here: Place) -> RunResult:
    engine = LocalEngine(here.config)
    found = run_cycle(here.config, engine, here.results, trigger="once")
    assert isinstance(found, RunResult)
    return found


def values(found: RunResult) -> dict[tuple[str, str | None], float | None]:
    return {
        (finding.measure, finding.column): finding.value
        for outcome in found.outcomes
        for finding in outcome.findings
    }


@pytest.mark.parametrize(
    "names", [("age", "income"), ("age", "income", "late", "rooms"), ("a", "b", "c")]
)
def test_rows_with_other_columns_are_nobodys(place: Make, names: tuple[str, ...]) -> None:
    here = place(monitors=MONITORS)
    here.append(draw(300, seed=3))
    alone = cycle(here)
    logged_before(here, names, np.full((500, len(names)), 7.0))
    with capture_logs() as events:
        found = cycle(here)
    assert [outcome.error for outcome in found.outcomes] == [None] * len(MONITORS)
    assert (found.window.rows, alone.window.rows) == (300, 300)
    assert {name: each for name, each in values(found).items() if name[1]} == {
        name: each for name, each in values(alone).items() if name[1]
    }
    (told,) = (event for event in events if event["event"] == "rows_of_another_model")
    assert told["columns"] == sorted({*names} ^ {*SCHEMA.names})
    again = cycle(here)  # from the timeline
    assert again.window.rows == 300
    assert again.cursor == found.cursor


def test_rows_with_the_same_columns_in_another_order_are_read_by_name(place: Make) -> None:
    here = place(monitors=MONITORS)
    here.append(draw(300, seed=3))
    rows = draw(500, seed=4)[:, [1, 2, 0]]
    rows[:, 0] = np.nan
    logged_before(here, ("income", "late", "age"), rows)
    found = cycle(here)
    assert [outcome.error for outcome in found.outcomes] == [None] * len(MONITORS)
    assert found.window.rows == 800
    shares = {name: value for (of, name), value in values(found).items() if of == "missing_share"}
    assert shares["income"] == pytest.approx((500 + 0.05 * 300) / 800, abs=0.05)
    assert shares["age"] == 0


def test_a_model_that_takes_a_number_over_leaves_the_others_rows_out_everywhere(
    place: Make,
) -> None:
    """Also of the count that the gate looks at, and whether or not there is a timeline."""
    here = place(monitors=MONITORS)
    here.append(draw(300, seed=3))
    logged_before(here, SCHEMA.names, draw(200, seed=5))
    assert cycle(here).window.rows == 500
    folder = model_store.folder(model_store.address(here.config), here.config.storage.models, "1")
    card = model.read_card(folder)
    fewer = FeatureSchema((Feature("age"), Feature("late")))
    shutil.rmtree(here.config.storage.predictions)
    logged_before(here, SCHEMA.names, draw(200, seed=5))
    shutil.rmtree(folder)
    rows = draw(500, seed=6)[:, [0, 2]]
    classifier = LogisticRegression().fit(rows, rows[:, 1] > np.median(rows[:, 1]))
    stored_model.store(here.config, "1", fewer, classifier)
    assert model.read_card(folder).sha256 != card.sha256
    live = here.config.storage.predictions / "predictions.csv"
    lines = [
        Prediction(str(uuid4()), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", "1", 0, 0.25, row)
        for row in rows[:250].tolist()
    ]
    live.write_bytes(header(fewer.names) + Formatter(fewer).lines(lines))
    kept = cycle(here)
    for path in here.config.storage.state.glob("timeline*"):
        path.unlink()
    anew = cycle(here)
    assert kept.window.rows == anew.window.rows == 250
    assert [outcome.error for outcome in kept.outcomes] == [None] * len(MONITORS)


def test_scores_are_kept_for_a_file_and_its_columns(place: Make) -> None:
    """A corrected signature: the same file reads the columns in another order."""
    here = place()
    config = here.config
    folders = [
        model_store.folder(model_store.address(config), config.storage.models, version)
        for version in ("1", "2")
    ]
    folders[1].mkdir()
    shutil.copyfile(folders[0] / model.MODEL_FILE, folders[1] / model.MODEL_FILE)
    corrected = FeatureSchema((SCHEMA.features[1], SCHEMA.features[0], SCHEMA.features[2]))
    card = dataclasses.replace(
        model.read_card(folders[0]), version="2", schema=corrected, sha256=""
    )
    model.admit(folders[1], card, config.registry.trust)
    assert model.read_card(folders[0]).sha256 == model.read_card(folders[1]).sha256
    frozen = reference.load(config.storage.reference)
    before = scored_reference(config, frozen, "1").scores
    after = scored_reference(config, frozen, "2").scores
    loaded = model.load(folders[1], config.registry.trust)
    np.testing.assert_allclose(after, loaded.scores(frozen.features[:, [1, 0, 2]]), atol=1e-12)
    assert np.abs(after - before).max() > 0.1
