"""The pipeline: preprocessing that is learnt once, with the estimator, and never again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitorkit import logs
from monitorkit.errors import ConfigError
from monitorkit.settings import Training
from monitorkit.suggestions import suggestion

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

log = logs.get(__name__)


def build(training: Training) -> Pipeline:
    """An unfitted pipeline: medians for missing values, a scaler where one matters, the estimator.

    No step reads columns by name, so the fitted pipeline takes DataFrames and arrays alike.

    Raises:
        ConfigError: naming arguments that the estimator does not take.
    """
    from sklearn.impute import SimpleImputer  # noqa: PLC0415 - 1 s, for training only
    from sklearn.pipeline import Pipeline  # noqa: PLC0415
    from sklearn.preprocessing import QuantileTransformer  # noqa: PLC0415

    # A column without any value is kept, so that the schema and the model agree on its width.
    steps: list[tuple[str, Any]] = [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True))
    ]
    if training.estimator == "logistic_regression":  # trees do not see a scale
        # Ranks: codes such as 98 and a debt of 300,000 leave a linear scale nothing to tell apart.
        steps.append(("scale", QuantileTransformer(random_state=training.seed)))
    steps.append(("classify", _estimator(training)))
    return Pipeline(steps)


def fit(pipeline: Pipeline, features: pd.DataFrame, labels: NDArray[Any], table: str) -> None:
    """Fit in place; the same rows give the same model on any number of cores.

    Args:
        pipeline: from `build`; the keys of a table `class_weight` become the classes of that name.
        features: (rows, columns) NaN where missing.
        labels: (rows,) two classes.
        table: the configuration's name of the arguments, for errors.

    Raises:
        ConfigError: for an argument's value that the estimator does not take.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - comes with scikit-learn

    estimator = pipeline.named_steps["classify"]
    weights = estimator.get_params().get("class_weight")
    if isinstance(weights, dict):
        estimator.set_params(class_weight=_by_class(weights, labels, table))
    forest = {"n_jobs", "n_estimators"} <= set(estimator.get_params())
    if forest:  # each tree has a seed of its own
        estimator.set_params(n_jobs=-1)
    try:
        # Sums over several threads would depend on how many there are.
        with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipeline.fit(features, labels)
    except (ValueError, TypeError) as error:  # the rows are sound, so it is about the arguments
        raise ConfigError(table, (" ".join(str(error).split()),)) from error
    finally:
        if forest:  # a parallel forest adds up its trees in a random order
            estimator.set_params(n_jobs=1)
    for message in sorted({" ".join(str(warning.message).split()) for warning in caught}):
        log.warning("estimator_warning", estimator=type(estimator).__name__, message=message)


def scores(pipeline: Pipeline, features: pd.DataFrame) -> NDArray[np.float64]:
    """(rows,) probability of the positive class, the second one in sorted order."""
    return np.asarray(pipeline.predict_proba(features)[:, 1], dtype=np.float64)


def _estimator(training: Training) -> Any:
    from sklearn.ensemble import (  # noqa: PLC0415 - 1 s, for training only
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    kinds: dict[str, Callable[..., Any]] = {
        "random_forest": RandomForestClassifier,
        "hist_gradient_boosting": HistGradientBoostingClassifier,
        "logistic_regression": LogisticRegression,
    }
    kind = kinds[training.estimator]
    arguments: dict[str, Any] = getattr(training, training.estimator)
    known = sorted(kind().get_params())
    problems = tuple(
        f"unknown argument `{name}` of {kind.__name__}{suggestion(name, known, quote='`')}"
        for name in arguments
        if name not in known
    )
    if problems:
        raise ConfigError(f"[training.{training.estimator}]", problems)
    return kind(**{"random_state": training.seed, **arguments})


def _by_class(weights: dict[Any, Any], labels: NDArray[Any], table: str) -> dict[Any, Any]:
    """The weights of a TOML table, whose keys are always text, by the classes of the data."""
    classes = {str(label): label for label in np.unique(labels).tolist()}
    unknown = [str(key) for key in weights if str(key) not in classes]
    if unknown:
        known = ", ".join(map(repr, classes))
        problem = f"class_weight names {unknown[0]!r}, and the classes of the data are {known}"
        raise ConfigError(table, (problem,))
    return {classes[str(key)]: weight for key, weight in weights.items()}
