"""A fitted scikit-learn model as plain arithmetic: what its steps compute, and no more.

scikit-learn takes 0.2-5 ms to check and hand on a single row; the arithmetic takes 0.05 ms. What is
not known here is left to scikit-learn, step by step, and `monitorkit.engines` compares the whole
with `predict_proba` before it serves.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit import forest

Rows = NDArray[np.float64]
"""(rows, columns)."""
Step = Callable[[Rows], Rows]


@dataclass(frozen=True, slots=True)
class Compiled:
    """An estimator's arithmetic.

    Attributes:
        name: of what does the work at the end: `one-tree` for forests, `treelite` for other trees,
            `numpy`, or `sklearn`.
        scores: (rows, columns) to (rows,) P(positive); thread-safe.
        complete: whether no part of it calls scikit-learn, which may want column names.
    """

    name: str
    scores: Callable[[Rows], NDArray[np.float64]]
    complete: bool


def compile_estimator(estimator: Any) -> Compiled | None:
    """What a fitted binary classifier computes; None: nothing of it is known here.

    Raises:
        Exception: whatever a library says of a model that it cannot take.
    """
    steps, final = _taken_apart(estimator)
    known = [_step(step) for step in steps]
    transforms = [
        made if made is not None else step.transform
        for made, step in zip(known, steps, strict=True)
    ]
    name, scores = _final(final)
    if scores is None and not any(known):
        return None
    complete = scores is not None and all(known)
    if scores is None:
        scores = _predict_proba(final)

    def through(rows: Rows) -> NDArray[np.float64]:
        for transform in transforms:
            rows = transform(rows)
        return scores(rows)

    return Compiled(name, through, complete)


def _taken_apart(estimator: Any) -> tuple[list[Any], Any]:
    """Every step before the classifier, and the classifier."""
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - 1 s, when a model loads

    if type(estimator) is not Pipeline:
        return [], estimator
    before, final = _taken_apart(estimator.steps[-1][1])
    return [*(step for _, step in estimator.steps[:-1]), *before], final


def _step(step: Any) -> Step | None:
    """One step's `transform`; None: not known. By exact type, for a subclass may do otherwise."""
    if step is None or step == "passthrough":
        return _identity
    make = _STEPS.get(type(step).__name__)
    if make is None or not type(step).__module__.startswith("sklearn."):
        return None
    return make(step)


def _identity(rows: Rows) -> Rows:
    return rows


def _pipeline(step: Any) -> Step | None:
    parts = [_step(part) for _, part in step.steps]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None

    def transform(rows: Rows) -> Rows:
        for part in known:
            rows = part(rows)
        return rows

    return transform


def _simple_imputer(step: Any) -> Step | None:
    fill = np.asarray(step.statistics_, dtype=np.float64)
    by_nan = isinstance(step.missing_values, float) and np.isnan(step.missing_values)
    if step.add_indicator or not by_nan or np.isnan(fill).any():
        return None
    return lambda rows: np.where(np.isnan(rows), fill, rows)


def _standard_scaler(step: Any) -> Step:
    return _shifted_and_divided(
        step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None
    )


def _robust_scaler(step: Any) -> Step:
    return _shifted_and_divided(
        step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
    )


def _shifted_and_divided(shift: Any, scale: Any) -> Step:
    def transform(rows: Rows) -> Rows:
        if shift is not None:
            rows = rows - shift
        return rows / scale if scale is not None else rows

    return transform


def _max_abs_scaler(step: Any) -> Step:
    scale = step.scale_
    low, high = (-1.0, 1.0) if getattr(step, "clip", False) else (-np.inf, np.inf)
    return lambda rows: np.clip(rows / scale, low, high)


def _min_max_scaler(step: Any) -> Step:
    scale, shift = step.scale_, step.min_
    low, high = step.feature_range if step.clip else (-np.inf, np.inf)
    return lambda rows: np.clip(rows * scale + shift, low, high)


def _quantile_transformer(step: Any) -> Step | None:
    """Ranks: the mean of interpolating upwards and downwards.

    The two differ only at a value that several quantiles share, where one finds the first of them
    and the other the last. Three knots there, a float apart, say the same with one interpolation.
    """
    if step.output_distribution != "uniform":
        return None
    quantiles, references = step.quantiles_, step.references_
    knots = [_knots(column, references) for column in np.ascontiguousarray(quantiles.T)]
    if any((np.diff(values) <= 0).any() for values, _ in knots):
        return None  # quantiles a float or two apart leave no room between them
    lowest, highest = quantiles[0], quantiles[-1]
    interpolate = np.interp
    lists = [(values.tolist(), heights.tolist()) for values, heights in knots]

    def transform(rows: Rows) -> Rows:
        if len(rows) == 1:  # numpy takes ten times as long to find its way as to interpolate
            row = rows[0].tolist()
            ranks = np.array([[_rank(value, *column) for value, column in zip(row, lists)]])  # noqa: B905 - speed
        else:
            ranks = np.empty_like(rows)
            for index, (values, heights) in enumerate(knots):
                ranks[:, index] = interpolate(rows[:, index], values, heights)
        ranks[rows == highest] = 1.0
        ranks[rows == lowest] = 0.0
        return ranks

    return transform


def _rank(value: float, values: list[float], heights: list[float]) -> float:
    """`np.interp` of one value."""
    above = bisect_right(values, value)
    if above == 0:
        return heights[0]
    if above == len(values):
        return heights[-1] if value == value else value  # noqa: PLR0124 - NaN stays NaN
    low, start = values[above - 1], heights[above - 1]
    if value == low:  # beside 0 the next float is so near that the slope is infinite
        return start
    return (heights[above] - start) / (values[above] - low) * (value - low) + start


def _knots(quantiles: Rows, references: Rows) -> tuple[Rows, Rows]:
    """Values and ranks of one column, each value once or three times a float apart."""
    values, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    last = first + count - 1
    low, high = references[first], references[last]
    shared = count > 1
    x = np.stack((np.nextafter(values, -np.inf), values, np.nextafter(values, np.inf)), axis=1)
    y = np.stack((low, (low + high) / 2, high), axis=1)
    kept = np.stack((shared, np.ones_like(shared), shared), axis=1)
    return x[kept], y[kept]


def _function_transformer(step: Any) -> Step | None:
    if step.validate:
        return None
    if step.func is None:
        return _identity
    function, arguments = step.func, step.kw_args or {}
    return lambda rows: function(rows, **arguments)


def _column_transformer(step: Any) -> Step | None:
    parts: list[tuple[Any, Step]] = []
    indices = step._transformer_to_input_indices  # noqa: SLF001 - names resolved to places
    for name, transformer, _ in step.transformers_:
        columns = list(indices[name])
        if transformer == "drop" or not columns:
            continue
        made = _step(transformer)
        if made is None:
            return None
        parts.append((columns, made))
    if not parts or step.transformer_weights:
        return None
    return lambda rows: np.hstack([made(rows[:, columns]) for columns, made in parts])


_STEPS: dict[str, Callable[[Any], Step | None]] = {
    "Pipeline": _pipeline,
    "SimpleImputer": _simple_imputer,
    "StandardScaler": _standard_scaler,
    "RobustScaler": _robust_scaler,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "QuantileTransformer": _quantile_transformer,
    "FunctionTransformer": _function_transformer,
    "ColumnTransformer": _column_transformer,
}

_LINEAR = ("LogisticRegression", "LogisticRegressionCV")
_FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier")
_ROUNDING_TREES = (*_FORESTS, "GradientBoostingClassifier")
"""scikit-learn's own trees compare float32 with their thresholds."""
_TREES = (*_ROUNDING_TREES, "HistGradientBoostingClassifier")


def _final(estimator: Any) -> tuple[str, Callable[[Rows], NDArray[np.float64]] | None]:
    """What does the classifier's work, and its P(positive) when that is known here."""
    kind = type(estimator).__name__ if type(estimator).__module__.startswith("sklearn.") else ""
    if kind in _LINEAR:
        return "numpy", _linear(estimator)
    if kind in _FORESTS:
        made = forest.one_tree(estimator)
        if made is not None:
            return "one-tree", made
    if kind in _TREES:
        return "treelite", in_treelite(estimator, rounding=kind in _ROUNDING_TREES)
    return "sklearn", None


def _linear(estimator: Any) -> Callable[[Rows], NDArray[np.float64]]:
    from scipy.special import expit  # noqa: PLC0415 - scikit-learn has imported it

    weights, intercept = estimator.coef_[0], estimator.intercept_[0]

    def scores(rows: Rows) -> NDArray[np.float64]:
        decisions = rows @ weights + intercept
        if not np.isfinite(decisions).all():  # of which the logistic function makes 0 or 1
            raise ValueError("a value is infinite or NaN when it comes to the regression")
        return np.asarray(expit(decisions))

    return scores


def in_treelite(estimator: Any, *, rounding: bool) -> Callable[[Rows], NDArray[np.float64]]:
    """The trees in treelite, called as `treelite.gtil.predict` calls it.

    That function makes its settings anew for each call, which takes longer than the trees.
    """
    import treelite  # noqa: PLC0415 - when a model of trees loads
    from treelite.gtil.gtil import GTILConfig  # noqa: PLC0415

    model = treelite.sklearn.import_model(estimator)
    columns = estimator.n_features_in_
    shape = treelite.gtil.predict(model, np.zeros((1, columns)), nthread=1).shape[1:]
    if model.input_type != "float64" or model.num_feature != columns:
        raise ValueError(f"treelite reads {model.num_feature} columns of {model.input_type}")
    settings = GTILConfig(predict_type="default", nthread=1)
    library = treelite.core._LIB  # noqa: SLF001 - its documented C API has no other door
    double = ctypes.POINTER(ctypes.c_double)

    def scores(rows: Rows) -> NDArray[np.float64]:
        if rounding:
            rows = forest.rounded(rows).astype(np.float64)
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        if rows.shape[1] != columns:  # C would read on beyond their end
            raise ValueError(f"{rows.shape[1]} columns for {columns}")
        found = np.zeros((len(rows), *shape))
        failed = library.TreeliteGTILPredict(
            model.handle,
            ctypes.cast(rows.ctypes.data, double),
            b"float64",
            ctypes.c_uint64(len(rows)),
            ctypes.cast(found.ctypes.data, double),
            settings.handle,
        )
        if failed:
            raise RuntimeError(library.TreeliteGetLastError().decode())
        return found[:, 0, -1]

    return scores


def _predict_proba(estimator: Any) -> Callable[[Rows], NDArray[np.float64]]:
    return lambda rows: np.asarray(estimator.predict_proba(rows)[:, 1], dtype=np.float64)
