"""What is done to a fitted scikit-learn estimator before it serves: checked, and made quiet.

skops vouches for the types in a file, not for the numbers in them; the node arrays of trees, which
scikit-learn follows without looking, are checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Class = int | bool | str


class Unfit(Exception):  # noqa: N818 - turned into ModelRefused by `monitorkit.model`
    """Why an estimator cannot be served, and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def walk(root: object) -> Iterator[Any]:
    """Every object inside a fitted estimator, itself first, each one once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, str | bytes | type | FunctionType | ModuleType):
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)
        elif isinstance(item, np.ndarray):
            if item.dtype == object:
                waiting.extend(item.flat)
        else:
            yield item
            waiting.extend(getattr(item, "__dict__", {}).values())


def use_one_thread(root: object) -> None:
    """Set `n_jobs` to 1 everywhere: a parallel forest sums its trees in a random order."""
    for item in walk(root):
        if "n_jobs" in getattr(item, "__dict__", {}):
            item.n_jobs = 1


def strip_names(root: object) -> list[tuple[object, str, object]]:
    """Forget column names, so that an array is taken without a warning; returns what was removed.

    Without `feature_names_in_` nothing is compared by name, and without `_sklearn_output_config`
    no step hands a DataFrame to the next one.
    """
    return [
        (item, name, item.__dict__.pop(name))
        for item in walk(root)
        for name in ("feature_names_in_", "_sklearn_output_config")
        if name in getattr(item, "__dict__", {})
    ]


def restore_names(removed: list[tuple[object, str, object]]) -> None:
    """Undo `strip_names`."""
    for item, name, value in removed:
        setattr(item, name, value)


def classes_of(estimator: Any) -> tuple[Class, Class]:
    """The negative and the positive class (the second one in scikit-learn's sorted order).

    Raises:
        Unfit: for anything but a fitted binary classifier with probabilities.
    """
    from sklearn.base import is_classifier, is_regressor  # noqa: PLC0415 - 1 s, when a model loads

    kind = type(estimator).__name__
    if not is_classifier(estimator):
        what = "a regressor" if is_regressor(estimator) else "not a classifier"
        raise Unfit(f"{kind} is {what}", "Register a binary scikit-learn classifier.")
    if not hasattr(estimator, "predict_proba"):
        raise Unfit(
            f"{kind} has no predict_proba",
            "Wrap it in sklearn.calibration.CalibratedClassifierCV, or use another classifier.",
        )
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise Unfit(f"{kind} is not fitted", "Fit it before it is logged.")
    if isinstance(classes, list):
        raise Unfit(f"it predicts {len(classes)} targets", "Register one model for each target.")
    if len(classes) != 2:  # noqa: PLR2004 - binary
        raise Unfit(f"it knows {len(classes)} classes", "Register a binary classifier.")
    return _plain(classes[0]), _plain(classes[1])


def _plain(value: Any) -> Class:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if not isinstance(plain, int | str):
        raise Unfit(
            f"class {plain!r} is a {type(plain).__name__}",
            "Use whole numbers, booleans or strings as classes.",
        )
    return plain


def check_trees(root: object) -> None:
    """Check that every tree leads downwards to a leaf and reads columns that there are.

    A crafted file could otherwise make scikit-learn read outside its arrays, or loop for ever.

    Raises:
        Unfit: naming the kind of tree.
    """
    from sklearn.ensemble import BaseEnsemble  # noqa: PLC0415 - 1 s, when a model loads
    from sklearn.tree._tree import Tree  # noqa: PLC0415

    for item in walk(root):
        if isinstance(getattr(item, "tree_", None), Tree):
            tree = item.tree_
            inner = tree.children_left != -1
            sound = tree.n_features == item.n_features_in_ and len(tree.value) == tree.node_count
            sound = sound and _leads_down(
                inner, tree.children_left, tree.children_right, tree.feature, tree.n_features
            )
            _require(sound, item)
        elif (
            hasattr(item, "estimators_")
            and isinstance(item, BaseEnsemble)
            and not hasattr(item, "estimators_features_")
        ):
            # The members are not asked again how wide the input is. (Bagging picks columns.)
            widths = {
                member.n_features_in_
                for member in np.ravel(np.asarray(item.estimators_, dtype=object))
                if hasattr(member, "tree_")
            }
            _require(widths <= {item.n_features_in_}, item)
        elif isinstance(getattr(item, "_predictors", None), list):
            _check_boosting(item)


def _check_boosting(model: Any) -> None:
    """HistGradientBoosting*: one structured array of nodes for each tree."""
    width = int(model.n_features_in_)
    mapper = getattr(model, "_bin_mapper", None)
    _require(mapper is None or len(mapper.is_categorical_) == width, model)
    for stage in model._predictors:  # noqa: SLF001 - scikit-learn has no public way to its nodes
        for predictor in stage:
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            _require(
                len(nodes) > 0
                and _leads_down(inner, nodes["left"], nodes["right"], nodes["feature_idx"], width),
                model,
            )
            by_category = inner & (nodes["is_categorical"] != 0)
            _require(
                bool(
                    np.all(nodes["bitset_idx"][by_category] < len(predictor.raw_left_cat_bitsets))
                ),
                model,
            )


def _leads_down(
    inner: NDArray[np.bool_],
    left: NDArray[Any],
    right: NDArray[Any],
    feature: NDArray[Any],
    width: int,
) -> bool:
    """Whether each inner node's children come after it, and its column is there."""
    count = len(inner)
    if not (len(left) == len(right) == len(feature) == count):
        return False
    here = np.flatnonzero(inner)
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        if not np.all((child > here) & (child < count)):
            return False
    column = feature[inner].astype(np.int64)
    return bool(np.all((column >= 0) & (column < width)))


def _require(sound: bool, item: object) -> None:
    if not sound:
        raise Unfit(
            f"the trees in its {type(item).__name__} are damaged",
            "Log the model again; if it came from somebody else, do not trust the file.",
        )
