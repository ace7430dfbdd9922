"""One pipeline for every estimator: reproducible, blind to names, and refused by name."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from monitorkit import logs
from monitorkit.errors import ConfigError
from monitorkit.settings import Training
from monitorkit.training import dataset, preprocessing

ESTIMATORS = ("random_forest", "hist_gradient_boosting", "logistic_regression")
DATA = dataset.synthetic(2000, 1)
FRAME = pd.DataFrame(DATA.features, columns=list(DATA.columns))


def fitted(training: Training, frame: pd.DataFrame = FRAME) -> Any:
    pipeline = preprocessing.build(training)
    preprocessing.fit(pipeline, frame, DATA.labels, "[training.x]")
    return pipeline


def training(estimator: str, **arguments: Any) -> Training:
    table = {"n_estimators": 20} if estimator == "random_forest" else {}
    return Training.model_validate({"estimator": estimator, estimator: {**table, **arguments}})


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_two_fits_give_the_same_scores_bit_for_bit(estimator: str) -> None:
    first, second = (
        preprocessing.scores(fitted(training(estimator)), FRAME).tobytes() for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_array_is_scored_like_a_frame(estimator: str) -> None:
    pipeline = fitted(training(estimator))
    expected = preprocessing.scores(pipeline, FRAME)
    # scikit-learn compares names where it learnt them; no step needs them.
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = pipeline.predict_proba(DATA.features)[:, 1]
    # A linear model's sums depend on how the rows lie in memory, in the last bit.
    assert np.abs(found - expected).max() <= (1e-15 if estimator == "logistic_regression" else 0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_preprocessing_is_frozen(estimator: str) -> None:
    """A row is scored alone as it is in company: nothing is learnt from what is scored."""
    pipeline = fitted(training(estimator))
    together = preprocessing.scores(pipeline, FRAME)[:20]
    with threadpool_limits(1):  # OpenMP's threads take longer to start than to score one row
        alone = [preprocessing.scores(pipeline, FRAME.iloc[[row]])[0] for row in range(20)]
    assert alone == pytest.approx(together, abs=1e-15)


def test_missing_values_become_the_median_of_the_training_rows() -> None:
    pipeline = fitted(training("logistic_regression"))
    row = FRAME.iloc[[0]].assign(MonthlyIncome=np.nan)
    median = FRAME.iloc[[0]].assign(MonthlyIncome=FRAME["MonthlyIncome"].median())
    assert preprocessing.scores(pipeline, row) == preprocessing.scores(pipeline, median)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_column_without_any_value_and_a_constant_one_are_kept(estimator: str) -> None:
    frame = FRAME.assign(age=np.nan, NumberOfDependents=1.0)
    pipeline = fitted(training(estimator), frame)
    assert pipeline.named_steps["classify"].n_features_in_ == 10
    assert np.isfinite(preprocessing.scores(pipeline, frame)).all()


def test_a_forest_is_saved_to_run_in_one_thread() -> None:
    assert fitted(training("random_forest")).named_steps["classify"].n_jobs == 1


def test_the_configured_arguments_and_the_seed_arrive() -> None:
    given = Training(seed=7)
    arguments = preprocessing.build(given).named_steps["classify"].get_params()
    assert {name: arguments[name] for name in given.random_forest} == given.random_forest
    assert arguments["random_state"] == 7


@pytest.mark.parametrize(
    ("estimator", "wrong", "near"),
    [
        ("random_forest", "n_estimator", "n_estimators"),
        ("hist_gradient_boosting", "learning_rat", "learning_rate"),
        ("logistic_regression", "max_itr", "max_iter"),
    ],
)
def test_an_unknown_argument_is_named_with_its_near_miss(
    estimator: str, wrong: str, near: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        preprocessing.build(training(estimator, **{wrong: 1}))
    assert caught.value.source == f"[training.{estimator}]"
    assert f"`{wrong}`" in str(caught.value)
    assert f"did you mean `{near}`?" in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "arguments", "named"),
    [
        ("random_forest", {"max_depth": -1}, "max_depth"),
        ("random_forest", {"max_features": "many"}, "max_features"),
        ("logistic_regression", {"solver": "lbfgs", "l1_ratio": 2.0}, "l1_ratio"),
    ],
)
def test_a_value_that_the_estimator_does_not_take_is_a_config_error(
    estimator: str, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        fitted(training(estimator, **arguments))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_weight_of_a_class_is_found_by_its_text(estimator: str) -> None:
    """The keys of a table in TOML are always text."""
    pipeline = fitted(training(estimator, class_weight={"0": 1, "1": 5}))
    assert pipeline.named_steps["classify"].class_weight == {0: 1, 1: 5}
    weighted = preprocessing.scores(pipeline, FRAME)
    assert (weighted != preprocessing.scores(fitted(training(estimator)), FRAME)).any()


def test_the_weight_of_a_class_that_is_a_word() -> None:
    words = np.where(DATA.labels == 1, "default", "aok")
    weights = {"aok": 1, "default": 5}
    pipeline = preprocessing.build(training("logistic_regression", class_weight=weights))
    preprocessing.fit(pipeline, FRAME, words, "[training.logistic_regression]")
    by_number = fitted(training("logistic_regression", class_weight={"0": 1, "1": 5}))
    assert preprocessing.scores(pipeline, FRAME) == pytest.approx(
        preprocessing.scores(by_number, FRAME)
    )


def test_the_weight_of_no_class_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"class_weight names '2', .* are '0', '1'"):
        fitted(training("random_forest", class_weight={"0": 1, "2": 5}))


def test_what_scikit_learn_warns_of_is_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    fitted(training("logistic_regression", max_iter=1))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (event,) = (event for event in events if event["event"] == "estimator_warning")
    assert event["level"] == "warning"
    assert "converge" in event["message"]


def test_every_estimator_of_the_configuration_is_built() -> None:
    kinds = {type(preprocessing.build(training(name))["classify"]) for name in ESTIMATORS}
    assert len(kinds) == 3
    assert set(itertools.chain(ESTIMATORS)) == set(
        Training.model_fields["estimator"].annotation.__args__  # type: ignore[union-attr]
    )
