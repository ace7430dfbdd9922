"""A stored model answers exactly as scikit-learn does, or is refused with the reason."""

from __future__ import annotations

import gc
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import structlog
import threadpoolctl
import worker_tasks as tasks
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from monitorkit import compiled, engines, estimators, model
from monitorkit import forest as forest_module
from monitorkit.compiled import Compiled
from monitorkit.config import Config
from monitorkit.engines import Engine, Timed
from monitorkit.errors import ModelRefused, SchemaError
from monitorkit.schema import Feature, FeatureSchema, FeatureType
from monitorkit.trust import Trust
from monitorkit.worker import Worker

TRUSTED = Config().registry.trust
NAMES = ("mean radius", "mean texture", "mean-perimeter", "area")

Floats = NDArray[np.float64]


def breast_cancer(*, missing: float = 0.0) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    values, target = load_breast_cancer(return_X_y=True)
    frame = pd.DataFrame(values[:, : len(NAMES)], columns=list(NAMES))
    random = np.random.default_rng(0)
    return frame.mask(random.random(frame.shape) < missing), target


def store(
    folder: Path,
    estimator: Any,
    *,
    names: Sequence[str] = NAMES,
    nullable: bool = False,
    kinds: Mapping[str, FeatureType] | None = None,
    **metadata: Any,
) -> Path:
    """What `registry.fetch` leaves behind, without a registry."""
    folder.mkdir(exist_ok=True)
    skops.io.dump(estimator, folder / model.MODEL_FILE)
    types = kinds or {}
    features = tuple(Feature(name, types.get(name, "number"), nullable) for name in names)
    draft = model.ModelCard(
        name="m",
        version="3",
        run_id="r",
        tracking_uri="sqlite:///x",
        created_at="2026-01-02T03:04:05+00:00",
        sha256="",
        schema=FeatureSchema(features),
        classes=(0, 1),
        estimator="",
        metadata={"fingerprint": {"rows": 569}, **metadata},
    )
    model.admit(folder, draft, TRUSTED)
    return folder


def refusal(folder: Path, estimator: Any, **options: Any) -> str:
    with pytest.raises(ModelRefused) as refused:
        store(folder, estimator, **options)
    assert not (folder / model.CARD_FILE).exists()
    return str(refused.value)


def forest(**options: Any) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=20, random_state=0, **options)


IMPUTING = [
    pytest.param(make_pipeline(SimpleImputer(), forest(n_jobs=2)), "one-tree", id="random forest"),
    pytest.param(
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        "numpy",
        id="logistic",
    ),
    pytest.param(
        HistGradientBoostingClassifier(max_iter=20), "treelite", id="hist gradient boosting"
    ),
    pytest.param(
        make_pipeline(SimpleImputer(), GradientBoostingClassifier(n_estimators=20)),
        "treelite",
        id="boosting",
    ),
    pytest.param(
        make_pipeline(
            SimpleImputer().set_output(transform="pandas"), StandardScaler(), LogisticRegression()
        ),
        "numpy",
        id="DataFrames between the steps",
    ),
    pytest.param(
        make_pipeline(SimpleImputer(), StandardScaler(), GaussianNB()),
        "sklearn",
        id="a classifier that is not compiled",
    ),
    pytest.param(
        make_pipeline(SimpleImputer(), PolynomialFeatures(2), LogisticRegression(max_iter=9000)),
        "numpy",
        id="a step that is not compiled",
    ),
    pytest.param(
        make_pipeline(
            ColumnTransformer(
                [("few", SimpleImputer(), ["area", "mean radius"])], remainder=SimpleImputer()
            ),
            forest(),
        ),
        "one-tree",
        id="columns by name",
    ),
]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge:Warning")  # no matter here
@pytest.mark.parametrize(("estimator", "engine"), IMPUTING)
def test_every_engine_scores_exactly_as_predict_proba_on_a_dataframe(
    tmp_path: Path, estimator: Any, engine: str
) -> None:
    frame, target = breast_cancer(missing=0.1)
    estimator.fit(frame, target)
    expected = estimator.predict_proba(frame)[:, 1]
    said = estimator.predict(frame).tolist()

    rows = frame.to_numpy(dtype=np.float64)
    loaded = model.load(store(tmp_path / "m", estimator, nullable=True), TRUSTED, rows)

    choice = loaded.scorer.choice
    assert choice.name == engine, choice.reason
    assert choice.reason is None
    scores = loaded.scores(rows)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=engines.TOLERANCE)
    single = np.concatenate([loaded.scores(rows[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(single, expected[:20], rtol=0, atol=engines.TOLERANCE)
    assert loaded.labels(scores) == said
    assert choice.max_difference <= engines.TOLERANCE
    assert loaded.accepts_missing == set(NAMES)
    assert all(feature.nullable for feature in loaded.card.schema.features)


def test_an_engine_that_answers_otherwise_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, target = breast_cancer()
    estimator = forest().fit(frame, target)
    folder = store(tmp_path / "m", estimator)
    real = compiled.compile_estimator

    def wrong(given: Any) -> Compiled | None:
        made = real(given)
        assert made is not None
        return replace(made, scores=lambda rows: made.scores(rows) * (1 + 1e-9))

    monkeypatch.setattr(compiled, "compile_estimator", wrong)
    choice = model.load(folder, TRUSTED).scorer.choice
    assert choice.name == "sklearn"
    assert choice.max_difference == 0
    assert choice.reason is not None
    assert choice.reason.startswith("one-tree differs by ")

    def fails(_: Any) -> None:
        raise ValueError("no such tree")

    monkeypatch.setattr(compiled, "compile_estimator", fails)
    assert model.load(folder, TRUSTED).scorer.choice.reason == "ValueError: no such tree"


@pytest.mark.parametrize(
    "wrong_for",
    [
        lambda count: count == 1,
        lambda count: count <= engines.SMALL_ROWS,
        lambda count: count >= engines.LARGE_ROWS,
    ],
    ids=["one", "few", "many"],
)
def test_an_engine_that_answers_otherwise_with_few_rows_or_with_many_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_for: Callable[[int], bool]
) -> None:
    assert engines.SMALL_ROWS <= forest_module.FEW_ROWS < engines.LARGE_ROWS
    frame, target = breast_cancer()
    rows = frame.to_numpy(dtype=np.float64)[:100]
    folder = store(tmp_path / "m", forest().fit(frame, target))
    tried = model.try_out(folder, TRUSTED, rows)
    real = compiled.compile_estimator

    def wrong(given: Any) -> Compiled | None:
        made = real(given)
        assert made is not None
        return replace(made, scores=lambda some: made.scores(some) + wrong_for(len(some)) * 1e-9)

    monkeypatch.setattr(compiled, "compile_estimator", wrong)
    choice = model.load(folder, TRUSTED, rows).scorer.choice
    assert choice.name == "sklearn"
    assert str(choice.reason).startswith("one-tree differs by ")
    with pytest.raises(ModelRefused, match="one-tree differs by"):
        model.ready(tried)


def test_many_rows_go_to_the_engine_that_is_fastest_for_many(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    estimator = HistGradientBoostingClassifier(random_state=0).fit(frame, target)
    rows = frame.to_numpy(dtype=np.float64)
    scorer = model.load(store(tmp_path / "m", estimator), TRUSTED, rows).scorer
    few, bulk = scorer.few, scorer.bulk
    assert (few.engine.name, bulk.engine.name) == ("treelite", "sklearn")
    assert few.first_row < bulk.first_row
    assert scorer.milliseconds(1) == few.first_row
    for edge in (scorer.bulk_from, 50.0):
        scorer = replace(scorer, bulk_from=edge)
        np.testing.assert_allclose(
            scorer.scores(rows), estimator.predict_proba(frame)[:, 1], rtol=0, atol=1e-12
        )
    assert scorer.milliseconds(49) == few.milliseconds(49)
    assert scorer.milliseconds(50) == bulk.milliseconds(50)


@pytest.mark.parametrize(
    ("few", "bulk", "expected"),
    [
        ((0.1, 0.02), (4.0, 0.004), 245),
        ((0.1, 0.004), (4.0, 0.02), math.inf),
        ((5.0, 0.02), (4.0, 0.004), 1),
    ],
)
def test_where_the_other_engine_takes_over(
    few: tuple[float, float], bulk: tuple[float, float], expected: float
) -> None:
    engine = Engine("x", lambda rows: rows[:, 0])
    one, other = Timed(engine, *few), Timed(engine, *bulk)
    assert engines.crossing(one, other) == expected
    assert engines.crossing(one, one) == math.inf
    if math.isfinite(expected):
        assert other.milliseconds(int(expected)) <= one.milliseconds(int(expected))


def test_scores_of_trees_are_the_models(tmp_path: Path) -> None:
    """Of a forest to the last bit; boosted trees sum up in another order than scikit-learn."""
    frame, target = breast_cancer()
    for name, estimator, near in (
        ("forest", forest(), 0.0),
        ("boosting", HistGradientBoostingClassifier(max_iter=20), 1e-15),
    ):
        estimator.fit(frame, target)
        loaded = model.load(store(tmp_path / name, estimator), TRUSTED)
        expected = estimator.predict_proba(frame)[:, 1]
        np.testing.assert_allclose(loaded.scores(frame.to_numpy()), expected, rtol=0, atol=near)


def test_a_model_that_reads_columns_by_name_gets_dataframes(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    by_name = ColumnTransformer(
        [("scaled", StandardScaler(), ["area", "mean radius"])], remainder="passthrough"
    )
    estimator = make_pipeline(by_name, GaussianNB()).fit(frame, target)
    loaded = model.load(store(tmp_path / "m", estimator), TRUSTED, frame.to_numpy())

    choice = loaded.scorer.choice
    assert choice.name == "pandas"
    assert choice.reason is not None
    assert "array input" in choice.reason
    expected = estimator.predict_proba(frame)[:, 1]
    np.testing.assert_array_equal(loaded.scores(frame.to_numpy()), expected)


def test_a_model_fitted_on_an_array_needs_no_names(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    estimator = forest().fit(frame.to_numpy(), target)
    loaded = model.load(store(tmp_path / "m", estimator), TRUSTED)
    expected = estimator.predict_proba(frame.to_numpy())[:, 1]
    np.testing.assert_array_equal(loaded.scores(frame.to_numpy()), expected)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["benign", "malignant"], ("benign", "malignant")),
        ([False, True], (False, True)),
        ([0.0, 1.0], (0, 1)),
        ([-1, 7], (-1, 7)),
    ],
)
def test_labels_are_the_classes_that_the_model_was_fitted_with(
    tmp_path: Path, names: list[Any], classes: tuple[Any, Any]
) -> None:
    frame, target = breast_cancer()
    estimator = forest(max_depth=3).fit(frame, np.array(names)[target])
    loaded = model.load(store(tmp_path / "m", estimator), TRUSTED)
    labels = loaded.labels(loaded.scores(frame.to_numpy()))
    assert labels == estimator.predict(frame).tolist()
    assert set(labels) == set(names)
    assert loaded.card.classes == classes
    assert [type(name) for name in loaded.card.classes] == [type(name) for name in classes]


def test_a_score_of_one_half_is_the_negative_class(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    loaded = model.load(store(tmp_path / "m", forest().fit(frame, target)), TRUSTED)
    assert loaded.labels(np.array([0.5, np.nextafter(0.5, 1)])) == [0, 1]


def test_every_nested_estimator_runs_on_one_thread(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    estimator = make_pipeline(SimpleImputer(), forest(n_jobs=2)).fit(frame, target)
    folder = store(tmp_path / "m", estimator)
    card = model.read_card(folder)
    loaded = model._deserialised(card, model.read_bytes(folder, card), TRUSTED)
    assert loaded[-1].n_jobs == 1


def test_scoring_uses_one_openmp_thread_in_whichever_thread_it_runs(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(frame, target)
    loaded = model.load(store(tmp_path / "m", estimator), TRUSTED)
    assert loaded.scorer.bulk.engine.name == "sklearn"
    seen: list[int] = []

    def score() -> None:
        loaded.scorer.bulk.engine.scores(frame.to_numpy())
        pools = threadpoolctl.threadpool_info()
        seen.extend(pool["num_threads"] for pool in pools if pool["user_api"] == "openmp")

    thread = threading.Thread(target=score)
    thread.start()
    thread.join()
    assert seen
    assert set(seen) == {1}


def test_no_rows_have_no_scores(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    loaded = model.load(store(tmp_path / "m", forest().fit(frame, target)), TRUSTED)
    assert loaded.scores(np.empty((0, len(NAMES)))).shape == (0,)


def test_threads_score_at_the_same_time(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    loaded = model.load(store(tmp_path / "m", forest().fit(frame, target)), TRUSTED)
    rows = frame.to_numpy()
    expected = loaded.scores(rows)
    different: list[int] = []

    def score(offset: int) -> None:
        part = slice(offset, None, 4)
        different.extend(
            offset
            for _ in range(10)
            if not np.array_equal(loaded.scores(rows[part]), expected[part])
        )

    threads = [threading.Thread(target=score, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not different


def test_a_model_without_an_imputer_wants_every_value(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, target)
    loaded = model.load(store(tmp_path / "m", estimator, nullable=True), TRUSTED)
    assert not any(feature.nullable for feature in loaded.card.schema.features)
    assert loaded.accepts_missing == set()
    rows = frame.to_numpy()[:2].copy()
    rows[1, 2] = np.nan
    with pytest.raises(SchemaError, match=r"'mean-perimeter': a value is missing"):
        loaded.scores(rows)


def test_missing_values_are_taken_column_by_column(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    first = ColumnTransformer([("imputed", SimpleImputer(), [0])], remainder="passthrough")
    estimator = make_pipeline(first, LogisticRegression(max_iter=5000))
    estimator.fit(frame.to_numpy(), target)
    loaded = model.load(store(tmp_path / "m", estimator, nullable=True), TRUSTED)
    nullable = {f.name for f in loaded.card.schema.features if f.nullable}
    assert nullable == loaded.accepts_missing == {"mean radius"}
    rows = frame.to_numpy()[:1].copy()
    rows[0, 0] = np.nan
    assert 0 <= loaded.scores(rows)[0] <= 1


@pytest.mark.parametrize("value", [float("nan"), date(2026, 1, 2), {1, 2}], ids=repr)
def test_metadata_that_json_lacks_is_refused(tmp_path: Path, value: Any) -> None:
    frame, target = breast_cancer()
    said = refusal(tmp_path / "m", forest().fit(frame, target), logged=value)
    assert "its metadata cannot be written as JSON" in said


def test_the_card_survives_its_file(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    folder = store(tmp_path / "m", make_pipeline(SimpleImputer(), forest()).fit(frame, target))
    card = model.read_card(folder)
    assert card.estimator == "RandomForestClassifier"
    assert card.metadata["fingerprint"] == {"rows": 569}
    assert model.ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card
    with pytest.raises(ValueError, match="schema_version is 2"):
        model.ModelCard.from_json({**card.to_json(), "schema_version": 2})


def test_a_changed_byte_is_named_with_both_hashes(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    folder = store(tmp_path / "m", forest().fit(frame, target))
    path = folder / model.MODEL_FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    expected = model.read_card(folder).sha256
    with pytest.raises(ModelRefused, match=rf"expected SHA-256 {expected}, found [0-9a-f]{{64}}"):
        model.load(folder, TRUSTED)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"schema_version": 1}'])
def test_a_damaged_card_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / model.CARD_FILE).write_text(text)
    with pytest.raises(ModelRefused, match=rf"{tmp_path}.*model.json cannot be read.*Delete this"):
        model.load(tmp_path, TRUSTED)


@pytest.mark.parametrize("file", [model.CARD_FILE, model.MODEL_FILE])
def test_a_sound_folder_that_cannot_be_read_now_is_not_to_be_deleted(
    tmp_path: Path, file: str
) -> None:
    """Too many files are open, say, which is no fault of the folder."""
    resource = pytest.importorskip("resource")
    frame, target = breast_cancer()
    folder = store(tmp_path / "m", forest().fit(frame, target))
    card = model.read_card(folder)

    def read() -> object:
        if file == model.CARD_FILE:
            return model.read_card(folder)
        return model.read_bytes(folder, card)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(ModelRefused, match=r"cannot be read: .*Too many open files") as refused:
            read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Delete" not in str(refused.value)
    assert "may be sound" in str(refused.value)
    assert read()


def test_types_that_are_not_trusted_are_named_with_the_key_that_trusts_them(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    folder = store(tmp_path / "m", forest().fit(frame, target))
    with pytest.raises(ModelRefused) as refused:
        model.load(folder, Trust())
    assert "sklearn.tree._tree.Tree" in str(refused.value)
    assert "[registry] skops_trusted_types" in str(refused.value)


def multiclass() -> Any:
    frame, target = breast_cancer()
    return forest().fit(frame, target * (1 + (frame["area"] > frame["area"].median())))


def multioutput() -> Any:
    frame, target = breast_cancer()
    return forest().fit(frame, np.column_stack([target, target]))


def on_data(estimator: Any) -> Any:
    return estimator.fit(*breast_cancer())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (multiclass, "it knows 3 classes"),
        (multioutput, "it predicts 2 targets"),
        (lambda: on_data(RandomForestRegressor(n_estimators=2)), "is a regressor"),
        (lambda: on_data(KMeans(n_clusters=2, n_init=1)), "is not a classifier"),
        (lambda: on_data(LinearSVC()), "has no predict_proba"),
        (forest, "is not fitted"),
    ],
)
def test_what_is_not_a_binary_classifier_is_refused(tmp_path: Path, make: Any, reason: str) -> None:
    message = refusal(tmp_path, make())
    assert reason in message
    assert message.startswith("model 'm' version 3 is refused")


def test_other_columns_than_it_was_fitted_on_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, on_data(forest()), names=("area", "b"))
    assert "cannot score rows of its signature" in message


REGIONS = ("region", "income")


def regions() -> tuple[pd.DataFrame, NDArray[np.int64]]:
    random = np.random.default_rng(0)
    region = random.integers(1, 5, 400).astype(float)
    income = random.lognormal(8, 1, 400)
    frame = pd.DataFrame(np.column_stack((region, income)), columns=list(REGIONS))
    return frame, (income * (1 + region) > 9000).astype(np.int64)


def encoding(encoder: Any, *rest: Any) -> Any:
    by_region = ColumnTransformer([("region", encoder, ["region"])], remainder="passthrough")
    return make_pipeline(by_region, *rest, LogisticRegression(max_iter=5000))


LOGARITHM = FunctionTransformer(np.log1p)
PICKY = [
    pytest.param(lambda: encoding(OneHotEncoder(sparse_output=False)), "", id="one-hot"),
    pytest.param(lambda: encoding(OrdinalEncoder()), "", id="ordinal"),
    pytest.param(
        lambda: make_pipeline(LOGARITHM, StandardScaler(), LogisticRegression()),
        "",
        id="logarithm",
    ),
    pytest.param(
        lambda: make_pipeline(PowerTransformer("box-cox"), LogisticRegression()), "", id="box-cox"
    ),
    pytest.param(
        lambda: make_pipeline(LOGARITHM, RandomForestClassifier(5, random_state=0)),
        "scores rows that predict_proba refuses",
        id="a tree that has an answer for the logarithm of a negative number",
    ),
]


@pytest.mark.filterwarnings("ignore:invalid value encountered in log1p:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero encountered in log1p:RuntimeWarning")
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "any"])
@pytest.mark.parametrize(("make", "reason"), PICKY)
def test_a_model_that_takes_some_values_only_is_served_and_refuses_the_others(
    tmp_path: Path, make: Any, reason: str, *, whole: bool
) -> None:
    frame, target = regions()
    estimator = make().fit(frame, target)
    kinds: dict[str, FeatureType] = {"region": "integer"} if whole else {}
    folder = store(tmp_path / "m", estimator, names=REGIONS, kinds=kinds)
    rows = frame.to_numpy()
    loaded = model.load(folder, TRUSTED, rows)
    expected = estimator.predict_proba(frame)[:, 1]
    np.testing.assert_allclose(loaded.scores(rows), expected, rtol=0, atol=engines.TOLERANCE)
    assert reason in str(loaded.scorer.choice.reason)
    # 5 is no region; -1 and below have no logarithm.
    for wrong in ((5.0, 100.0), (1.0, -1.0), (1.0, -7.0)):
        row = np.array([wrong])
        try:
            right = estimator.predict_proba(pd.DataFrame(row, columns=frame.columns))[0, 1]
        except ValueError:
            right = None
        try:
            found = loaded.scores(row)[0]
        except ValueError:
            found = np.nan
        if right is None:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(right, abs=engines.TOLERANCE)


def test_a_missing_value_is_taken_beside_a_category(tmp_path: Path) -> None:
    frame, target = regions()
    first = ColumnTransformer(
        [("region", OneHotEncoder(sparse_output=False), ["region"])], remainder=SimpleImputer()
    )
    estimator = make_pipeline(first, StandardScaler(), LogisticRegression()).fit(frame, target)
    kinds: dict[str, FeatureType] = {"region": "integer"}
    folder = store(tmp_path / "m", estimator, names=REGIONS, kinds=kinds, nullable=True)
    assert model.load(folder, TRUSTED).accepts_missing == {"income"}


def test_a_model_that_scores_no_random_row_says_so_and_refuses_only_with_the_reference(
    tmp_path: Path,
) -> None:
    frame, target = regions()
    estimator = encoding(OneHotEncoder(sparse_output=False)).fit(frame, target)
    folder = store(tmp_path / "m", estimator, names=REGIONS)
    loaded = model.load(folder, TRUSTED)
    choice = loaded.scorer.choice
    assert choice.name == "pandas"
    assert str(choice.reason).startswith("not compared: it scores no random row: ValueError: Found")
    np.testing.assert_array_equal(
        loaded.scores(frame.to_numpy()), estimator.predict_proba(frame)[:, 1]
    )
    assert loaded.scorer.milliseconds(1) == engines.NOT_MEASURED[0]
    with pytest.raises(ModelRefused, match="Found unknown categories"):
        model.load(folder, TRUSTED, frame.to_numpy() + 7)


def test_reference_rows_that_the_model_refuses_are_left_out_with_a_warning(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    rows = frame.to_numpy(dtype=np.float64)
    folder = store(tmp_path / "forest", forest().fit(frame, target))
    with structlog.testing.capture_logs() as events:
        loaded = model.load(folder, TRUSTED, np.vstack((rows, np.full((1, 4), 1e39))))
    assert loaded.scorer.choice.name == "one-tree"
    (event,) = events
    assert (event["event"], event["rows"]) == ("reference_rows_not_scored", 1)
    assert event["log_level"] == "warning"

    frame, target = regions()
    estimator = encoding(OneHotEncoder(sparse_output=False)).fit(frame, target)
    folder = store(tmp_path / "m", estimator, names=REGIONS, kinds={"region": "integer"})
    reference = frame.to_numpy().copy()
    reference[[3, 77, 399], 0] = 9
    with structlog.testing.capture_logs() as events:
        model.load(folder, TRUSTED, reference)
    (event,) = events
    assert event["rows"] == 3
    assert "Found unknown categories" in event["reason"]


def test_a_threshold_inside_the_classifier_is_refused_on_real_rows(tmp_path: Path) -> None:
    frame, target = breast_cancer()
    estimator = FixedThresholdClassifier(LogisticRegression(), threshold=0.9).fit(
        frame.to_numpy(), target
    )
    folder = store(tmp_path / "m", estimator)
    with pytest.raises(ModelRefused, match=r"disagree on \d+\.\d% of the reference"):
        model.load(folder, TRUSTED, frame.to_numpy())


def test_what_is_no_skops_file_is_refused(tmp_path: Path) -> None:
    folder = store(tmp_path / "m", on_data(forest()))
    card = model.read_card(folder)
    with pytest.raises(ModelRefused, match="its file cannot be loaded"):
        model._try_out(card, b"no zip archive", TRUSTED, None)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.close()


@pytest.mark.parametrize(
    "make",
    [
        forest,
        lambda: HistGradientBoostingClassifier(max_iter=9),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: make_pipeline(StandardScaler(), GaussianNB()),
        lambda: make_pipeline(
            ColumnTransformer([("one", StandardScaler(), ["area"])], remainder="drop"),
            GaussianNB(),
        ),
    ],
    ids=["one-tree", "treelite", "numpy", "sklearn", "pandas"],
)
def test_a_plan_made_in_another_process_is_the_one_made_here(
    tmp_path: Path, worker: Worker, make: Any, request: pytest.FixtureRequest
) -> None:
    frame, target = breast_cancer()
    rows = frame.to_numpy()
    folder = store(tmp_path / "m", make().fit(frame, target))
    tried = worker.call("trying out", 60, model.try_out, folder, TRUSTED, rows)
    plan, here = tried.plan, model.try_out(folder, TRUSTED, rows).plan
    assert plan.choice == here.choice
    assert plan.choice.name in request.node.callspec.id
    assert (plan.arrays, plan.compiled) == (here.arrays, here.compiled)
    assert (plan.bulk is None) == (here.bulk is None)
    np.testing.assert_array_equal(plan.rows, here.rows)
    np.testing.assert_array_equal(plan.expected, here.expected)

    loaded = model.load(folder, TRUSTED, rows)
    served = model.ready(tried)
    assert served.scorer.choice == loaded.scorer.choice
    assert served.scorer.choice.name == plan.choice.name
    assert served.accepts_missing == loaded.accepts_missing
    # Not `scores`: from how many rows the other engine is used was timed in each process.
    for one, other in (
        (served.scorer.few.engine, loaded.scorer.few.engine),
        (served.scorer.bulk.engine, loaded.scorer.bulk.engine),
    ):
        assert one.name == other.name
        np.testing.assert_array_equal(one.scores(rows), other.scores(rows))


def test_an_engine_that_differs_in_another_process_does_not_serve_here(
    tmp_path: Path, worker: Worker
) -> None:
    frame, target = breast_cancer()
    rows = frame.to_numpy()
    folder = store(tmp_path / "m", forest().fit(frame, target))
    tried = worker.call("trying out", 60, tasks.try_out_wrongly, folder, TRUSTED, rows)
    served = model.ready(tried)
    assert served.scorer.choice.name == served.scorer.bulk.engine.name == "sklearn"
    assert str(served.scorer.choice.reason).startswith("one-tree differs by ")


def test_a_plan_is_built_with_a_few_rows_and_without_predict_proba(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, target = breast_cancer()
    tried = model.try_out(
        store(tmp_path / "m", forest().fit(frame, target)), TRUSTED, frame.to_numpy()
    )
    seen: list[int] = []
    real = compiled.compile_estimator

    def watched(estimator: Any) -> Compiled | None:
        made = real(estimator)
        assert made is not None

        def scores(rows: Floats) -> Floats:
            seen.append(len(rows))
            return made.scores(rows)

        return replace(made, scores=scores)

    def forbidden(*_: Any) -> Any:
        raise AssertionError("it takes the interpreter from the event loop")

    monkeypatch.setattr(compiled, "compile_estimator", watched)
    monkeypatch.setattr(RandomForestClassifier, "predict_proba", forbidden)
    assert model.ready(tried).scorer.choice.name == "one-tree"
    assert seen == [engines.LARGE_ROWS, engines.SAMPLE_ROWS, 1]


def _other_leaves(tried: model.Tried) -> model.Tried:
    for tree in tried.estimator.estimators_:
        tree.tree_.value[:] = tree.tree_.value[..., ::-1].copy()
    return tried


def _other_answers(tried: model.Tried, answer: float) -> model.Tried:
    expected = np.full_like(tried.plan.expected, answer)
    return replace(tried, plan=replace(tried.plan, expected=expected))


def _other_engine(tried: model.Tried) -> model.Tried:
    return replace(tried, plan=replace(tried.plan, choice=engines.Choice("numpy")))


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (_other_leaves, r"one-tree differs by [01].*, which was not so where it was tried out"),
        (lambda tried: _other_answers(tried, 2.0), "one-tree differs by"),
        (lambda tried: _other_answers(tried, np.nan), "one-tree differs by nan"),
        (_other_engine, "numpy cannot be made of it"),
    ],
    ids=["leaves", "answers", "no answers", "engine"],
)
def test_a_plan_that_is_not_the_models_is_refused(tmp_path: Path, tamper: Any, reason: str) -> None:
    frame, target = breast_cancer()
    tried = model.try_out(
        store(tmp_path / "m", forest().fit(frame, target)), TRUSTED, frame.to_numpy()
    )
    tried = pickle.loads(pickle.dumps(tried))  # noqa: S301 - our own bytes
    with pytest.raises(ModelRefused, match=reason):
        model.ready(tamper(tried))


class _Crafted:
    """Changes one number in a tree's nodes, as a crafted file would."""

    def __init__(self, field: str, value: int) -> None:
        self.field, self.value = field, value

    def forest(self) -> Any:
        estimator = on_data(forest(max_depth=3))
        tree = estimator.estimators_[0].tree_
        state = tree.__getstate__()
        nodes = state["nodes"].copy()
        nodes[self.field][0] = self.value
        crafted = type(tree)(tree.n_features, tree.n_classes, tree.n_outputs)
        crafted.__setstate__({**state, "nodes": nodes})
        estimator.estimators_[0].tree_ = crafted
        return estimator

    def boosting(self) -> Any:
        estimator = on_data(HistGradientBoostingClassifier(max_iter=2))
        field = {"left_child": "left", "right_child": "right", "feature": "feature_idx"}[self.field]
        estimator._predictors[0][0].nodes[field][0] = self.value
        return estimator


@pytest.mark.parametrize("kind", ["forest", "boosting"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("left_child", 10**6), ("right_child", 10**6), ("left_child", 0), ("feature", 10**4)],
    ids=["beyond the nodes", "beyond the nodes, right", "a loop", "beyond the columns"],
)
def test_trees_that_would_crash_the_process_are_refused(
    tmp_path: Path, kind: str, field: str, value: int
) -> None:
    estimator = getattr(_Crafted(field, value), kind)()
    assert "are damaged" in refusal(tmp_path, estimator)


def test_a_tree_wider_than_its_forest_is_refused(tmp_path: Path) -> None:
    estimator = on_data(forest(max_depth=3))
    estimator.n_features_in_ = 2
    assert "are damaged" in refusal(tmp_path, estimator)


def test_trees_of_every_shape_pass_the_check() -> None:
    shapes: list[BaseEstimator] = [
        forest(max_leaf_nodes=7),
        forest(max_depth=1),
        GradientBoostingClassifier(n_estimators=3, max_leaf_nodes=5),
        HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]),
    ]
    frame, target = breast_cancer(missing=0.05)
    frame["area"] = (frame["area"] % 7).round()
    filled = frame.fillna(1)
    for estimator in shapes:
        estimators.check_trees(estimator.fit(filled, target))


def test_loading_warns_of_nothing_and_needs_no_mlflow(tmp_path: Path) -> None:
    folder = store(tmp_path / "m", on_data(make_pipeline(SimpleImputer(), forest())))
    code = (
        "import sys, numpy, pathlib\n"
        "from monitorkit import model\n"
        "from monitorkit.trust import Trust\n"
        "assert 'sklearn' not in sys.modules\n"
        f"loaded = model.load(pathlib.Path({str(folder)!r}), {TRUSTED!r})\n"
        f"loaded.scores(numpy.ones((1, {len(NAMES)})))\n"
        "print([name for name in ('mlflow', 'evidently') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "[]")


def test_another_scikit_learn_is_an_event(tmp_path: Path) -> None:
    folder = store(tmp_path / "m", on_data(forest()))
    document = json.loads((folder / model.CARD_FILE).read_text())
    document["metadata"]["sklearn_version"] = "0.1.2"
    (folder / model.CARD_FILE).write_text(json.dumps(document))
    with structlog.testing.capture_logs() as events:
        model.load(folder, TRUSTED)
    assert [event["event"] for event in events] == ["model_from_another_scikit_learn"]


@pytest.mark.parametrize(("estimator", "engine"), IMPUTING[:3])
def test_a_model_that_is_replaced_is_freed_without_a_collection(
    tmp_path: Path, estimator: Any, engine: str
) -> None:
    frame, target = breast_cancer()
    loaded = model.load(store(tmp_path / "m", estimator.fit(frame, target)), TRUSTED)
    assert loaded.scorer.choice.name == engine
    gc.collect()
    gc.disable()  # what a service has frozen is never looked at
    try:
        scores = weakref.ref(loaded.scorer.few.engine.scores)
        del loaded
        assert scores() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(),
        RandomForestClassifier(5, random_state=0),
        DecisionTreeClassifier(),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=3),
    ],
    ids=lambda last: type(last).__name__,
)
def test_rows_that_a_step_leads_beyond_float32_are_refused_whatever_answers(last: Any) -> None:
    """scikit-learn's own look at every number is left out, but for large ones."""
    rows = np.random.default_rng(0).lognormal(size=(400, 3))
    labels = (rows[:, 0] > 1).astype(int)
    linear = isinstance(last, LogisticRegression)
    steps = PolynomialFeatures(10 if linear else 5, include_bias=False), StandardScaler()
    fitted = make_pipeline(*steps, clone(last)).fit(rows, labels)
    every = [engines.as_fitted(fitted, ("a", "b", "c")), engines._unchecked(fitted)]
    compiled = engines._compiled(fitted, arrays=True)
    every += [] if compiled is None else [compiled]
    # 1e9 to the fifth is beyond float32, in which trees compute; regressions do in float64.
    too_large = (3e38,) if linear else (1e9, 3e38)
    with np.errstate(all="ignore"):
        for engine, number, size in product(every, too_large, (300, 8)):
            large = rows[:size].copy()
            large[7, 1] = number
            with pytest.raises(ValueError, match=r"infinity|NaN|too large"):
                engine.scores(large)
        for engine in every:
            np.testing.assert_allclose(
                engine.scores(rows), fitted.predict_proba(rows)[:, 1], atol=1e-12
            )


def _winsorised(rows: Floats) -> Floats:
    """As people write it: into what it was given."""
    rows[:, 0] = np.clip(rows[:, 0], -1.0, 1.0)
    return rows


@pytest.mark.parametrize(
    "steps",
    [
        (Normalizer(copy=False),),
        (StandardScaler(copy=False),),
        (RobustScaler(copy=False),),
        (PowerTransformer(copy=False),),
        (SimpleImputer(copy=False, add_indicator=True), StandardScaler(copy=False)),
        (FunctionTransformer(_winsorised), StandardScaler()),
    ],
    ids=lambda steps: type(steps[0]).__name__,
)
@pytest.mark.parametrize("last", [LogisticRegression(), RandomForestClassifier(5, random_state=0)])
def test_rows_stay_as_they_are_whatever_the_model_does_to_them(steps: Any, last: Any) -> None:
    """They are frozen as the reference, and logged, after they were scored."""
    random = np.random.default_rng(0)
    rows = random.lognormal(size=(400, 3))
    if isinstance(steps[0], SimpleImputer):
        rows[random.random(rows.shape) < 0.1] = np.nan
    labels = (np.nan_to_num(rows[:, 0]) > 1).astype(int)
    fitted = make_pipeline(*map(clone, steps), clone(last)).fit(rows.copy(), labels)
    expected = fitted.predict_proba(rows.copy())[:, 1]
    before = rows.copy()
    engine = engines.as_fitted(fitted, ("a", "b", "c"))
    np.testing.assert_allclose(engine.scores(rows), expected, atol=1e-12)
    compiled = engines._compiled(fitted, arrays=True)
    for each in [engine, engines._unchecked(fitted), *([] if compiled is None else [compiled])]:
        for size in (400, 10, 1):
            np.testing.assert_allclose(each.scores(rows[:size]), expected[:size], atol=1e-12)
    engines.labels_differ(fitted, ("a", "b", "c"), rows, expected)
    np.testing.assert_array_equal(rows, before)
