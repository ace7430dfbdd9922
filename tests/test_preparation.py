"""A reference holds no row that the model cannot score, for it never changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stored_model
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from structlog.testing import capture_logs

from monitorkit import model, model_store, preparation, reference, registry
from monitorkit.config import Config
from monitorkit.errors import DataError, ReferenceExists, ReferenceMissing, SchemaError
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.serving.served import Served
from monitorkit.training.train import train

SCHEMA = FeatureSchema((Feature("region", "integer"), Feature("income", nullable=True)))


def made(
    folder: Path, estimator: Any, regions: Sequence[int] = range(1, 5)
) -> tuple[Config, Path, pd.DataFrame]:
    """A configuration with data, a stored model of it, and the data."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"region": random.choice(regions, 200), "income": random.random(200)})
    target = (frame["income"] > 0.5).astype(int)
    path = folder / "rows.csv"
    config = Config.model_validate(
        {"storage": {"root": folder / "root"}, "data": {"path": path, "target": "y"}}
    )
    stored_model.store(config, "1", SCHEMA, estimator.fit(frame.astype(float), target))
    where = model_store.folder(model_store.address(config), config.storage.models, "1")
    frame["y"] = target
    return config, where, frame


def refusal(config: Config, where: Path, source: Path | None) -> DataError:
    with pytest.raises(DataError) as caught:
        preparation._freeze(config, where, source)
    assert caught.value.path == str(config.data.path)
    assert "bootstrap --from FILE" in caught.value.remedy
    assert not reference.exists(config.storage.reference)
    return caught.value


def test_a_missing_value_that_the_model_cannot_take_is_named(tmp_path: Path) -> None:
    config, where, frame = made(tmp_path, LogisticRegression())
    frame.loc[[3, 7], "income"] = np.nan
    frame.to_csv(config.data.path, index=False)
    error = refusal(config, where, config.data.path)
    assert (error.line, error.column) == (5, "income")
    assert "a value is missing, and model" in error.problem


def test_a_missing_value_in_the_held_out_share_is_named_by_column(tmp_path: Path) -> None:
    config, where, frame = made(tmp_path, LogisticRegression())
    frame.loc[::2, "income"] = np.nan
    frame.to_csv(config.data.path, index=False)
    error = refusal(config, where, None)
    assert (error.line, error.column) == (None, "income")


def test_rows_that_the_model_refuses_are_told_of(tmp_path: Path) -> None:
    estimator = make_pipeline(OneHotEncoder(sparse_output=False), LogisticRegression())
    config, where, frame = made(tmp_path, estimator)
    frame.loc[3, "region"] = 9
    frame.to_csv(config.data.path, index=False)
    error = refusal(config, where, config.data.path)
    assert "cannot score some of its rows: ValueError: Found unknown categories" in error.problem


def test_what_a_model_of_few_categories_takes_is_tried_on_the_rows_themselves(
    tmp_path: Path,
) -> None:
    """It scores no random row, so only rows of its own can tell that a value may be missing."""
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["region"]), remainder="passthrough"
    )
    estimator = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=3))
    config, where, frame = made(tmp_path, estimator, regions=(101, 102, 205))
    assert [each.nullable for each in model.read_card(where).schema.features] == [False, True]
    frame.loc[3, "income"] = np.nan
    frame.to_csv(config.data.path, index=False)
    assert preparation._freeze(config, where, config.data.path).num_samples == len(frame)
    frozen = reference.load(config.storage.reference)
    scored = scored_reference(config, frozen, "1")
    assert np.isfinite(scored.scores).all()

    alone = Served.of(model.load(where, config.registry.trust), {})
    beside = Served.of(model.load(where, config.registry.trust, frozen.features), {})
    assert [each.nullable for each in alone.schema.features] == [False, False]
    assert [each.nullable for each in beside.schema.features] == [False, True]


def test_columns_that_the_model_does_not_read_may_hold_anything(tmp_path: Path) -> None:
    config, where, frame = made(tmp_path, LogisticRegression())
    frame["town"] = "south"
    frame.to_csv(config.data.path, index=False)
    metadata = preparation._freeze(config, where, None)
    assert metadata.features == ("region", "income")
    assert metadata.num_samples == len(frame) * config.training.test_share


def test_missing_values_that_the_model_takes_are_frozen(tmp_path: Path) -> None:
    config, where, frame = made(tmp_path, make_pipeline(SimpleImputer(), LogisticRegression()))
    frame.loc[3, "income"] = np.nan
    frame.to_csv(config.data.path, index=False)
    assert preparation._freeze(config, where, config.data.path).num_samples == len(frame)


@pytest.mark.parametrize(("rows", "warns"), [(199, True), (200, False)])
def test_a_reference_of_few_rows_is_frozen_with_a_warning(
    tmp_path: Path, rows: int, *, warns: bool
) -> None:
    config, where, frame = made(tmp_path, LogisticRegression())
    frame.head(rows).to_csv(config.data.path, index=False)
    with capture_logs() as events:
        preparation._freeze(config, where, config.data.path)
    told = [event for event in events if event["log_level"] == "warning"]
    assert [event["event"] for event in told] == ["reference_is_small"] * warns
    assert all(event["rows"] == rows for event in told)


def test_half_a_reference_is_put_back_or_moved_away(tmp_path: Path) -> None:
    config, where, frame = made(tmp_path, LogisticRegression())
    frame.to_csv(config.data.path, index=False)
    preparation._freeze(config, where, config.data.path)
    (config.storage.reference / "reference_metadata.json").unlink()
    with pytest.raises(ReferenceMissing, match=r"is gone\. Put it back, or move the rest away"):
        reference.verify(config.storage.reference)
    with pytest.raises(ReferenceExists, match="move the reference folder away first"):
        preparation.bootstrap(config)


def test_a_version_that_cannot_be_served_does_not_replace_the_last_good_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.random((300, 3)), columns=["a", "b", "c"])
    frame["y"] = (frame["b"] > 0.5).astype(int)
    path = tmp_path / "rows.csv"
    settings: dict[str, Any] = {
        "storage": {"root": tmp_path / "root"},
        "data": {"path": path, "target": "y"},
        "schema": {"a": {"minimum": 0}},
        "training": {"estimator": "logistic_regression"},
    }
    config = Config.model_validate(settings)
    frame[["a", "b", "y"]].to_csv(path, index=False)
    preparation.prepare_here(config)
    address, store = model_store.address(config), config.storage.models
    assert model_store.last_good(address, store) == "1"

    frame[["b", "c", "y"]].to_csv(path, index=False)
    train(Config.model_validate({**settings, "schema": {}}))
    registry.promote(address, "2")
    config.storage.reference.rename(tmp_path / "aside")
    for begin in (preparation.bootstrap, preparation.prepare_here):
        with pytest.raises(SchemaError, match="'a'"):
            begin(config)
        assert model_store.last_good(address, store) == "1"
