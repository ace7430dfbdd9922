"""What is compiled equals scikit-learn to the last bits, wherever a value may lie."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from monitorkit import forest
from monitorkit.compiled import Compiled, _quantile_transformer, compile_estimator

Rows = NDArray[np.float64]

COLUMNS = 4


def data(*, missing: bool) -> tuple[Rows, NDArray[np.int64]]:
    """400 rows of wide, tied, whole and small numbers."""
    rows, labels = make_classification(
        400, COLUMNS, n_informative=3, n_redundant=0, random_state=0, flip_y=0.2
    )
    rows[:, 0] = np.round(rows[:, 0])
    rows[:, 1] = np.exp(3 * rows[:, 1])
    rows[:, 2] /= 1e3
    if missing:
        rows[np.random.default_rng(0).random(rows.shape) < 0.1] = np.nan
    return rows, labels


def compiled(estimator: Any) -> Compiled:
    made = compile_estimator(estimator)
    assert made is not None
    return made


values = st.one_of(
    st.integers(-4, 4).map(float),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1e-300, 1e30, -1e30]),
)
rows_of_values = st.lists(
    st.lists(values, min_size=COLUMNS, max_size=COLUMNS), min_size=1, max_size=20
).map(lambda rows: np.array(rows, dtype=np.float64))

STEPS = [
    SimpleImputer(strategy="median"),
    SimpleImputer(strategy="constant", fill_value=-1.0),
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    RobustScaler(),
    RobustScaler(with_centering=False, with_scaling=False),
    MinMaxScaler(),
    MinMaxScaler(feature_range=(-2, 3), clip=True),
    MaxAbsScaler(),
    QuantileTransformer(n_quantiles=1000, random_state=0),
    QuantileTransformer(n_quantiles=5, random_state=0),
    FunctionTransformer(np.abs),
    ColumnTransformer(
        [
            ("a", StandardScaler(), [3, 1]),
            ("nothing", StandardScaler(), []),
            ("gone", "drop", [0]),
            ("b", make_pipeline(SimpleImputer(), MaxAbsScaler()), [2]),
        ],
        remainder="passthrough",
    ),
    ColumnTransformer([("all", "passthrough", slice(0, COLUMNS))]),
    "passthrough",
]


@pytest.mark.filterwarnings("ignore:n_quantiles .* is greater:UserWarning")  # shows small samples
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step(step: Any) -> None:
    rows, labels = data(missing=False)
    fitted = Pipeline([("step", step), ("classify", LogisticRegression())]).fit(rows, labels)
    made = compiled(fitted)
    assert (made.name, made.complete) == ("numpy", True)

    @settings(max_examples=60, deadline=None, database=None)
    @given(rows_of_values)
    def equals(rows: Rows) -> None:
        before = rows.copy()
        expected = fitted.predict_proba(rows)[:, 1]
        np.testing.assert_allclose(made.scores(rows), expected, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(rows, before, "the rows are also logged: not to be changed")

    equals()
    np.testing.assert_allclose(  # ties and ends of ranges
        made.scores(rows), fitted.predict_proba(rows)[:, 1], rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    "step",
    [
        QuantileTransformer(output_distribution="normal", n_quantiles=50),
        SimpleImputer(add_indicator=True),
        SimpleImputer(missing_values=-1),
        FunctionTransformer(np.abs, validate=True),
        ColumnTransformer([("a", SimpleImputer(missing_values=-1), [0, 1])]),
        ColumnTransformer([("a", StandardScaler(), [0, 1])], transformer_weights={"a": 2.0}),
    ],
    ids=str,
)
def test_what_is_not_known_is_left_to_scikit_learn(step: Any) -> None:
    rows, labels = data(missing=False)
    fitted = make_pipeline(step, LogisticRegression()).fit(rows, labels)
    made = compiled(fitted)
    assert not made.complete
    np.testing.assert_allclose(
        made.scores(rows), fitted.predict_proba(rows)[:, 1], rtol=0, atol=1e-14
    )


def test_a_subclass_may_do_otherwise() -> None:
    class Doubled(StandardScaler):  # type: ignore[misc]
        def transform(self, X: Any, copy: Any = None) -> Any:  # noqa: N803
            return 2 * super().transform(X, copy)

    Doubled.__module__ = "sklearn.elsewhere"
    rows, labels = data(missing=False)
    fitted = make_pipeline(Doubled(), LogisticRegression()).fit(rows, labels)
    made = compiled(fitted)
    assert not made.complete
    np.testing.assert_allclose(made.scores(rows), fitted.predict_proba(rows)[:, 1], atol=1e-14)


def test_an_estimator_of_which_nothing_is_known_is_not_compiled() -> None:
    rows, labels = data(missing=False)
    assert compile_estimator(DecisionTreeClassifier().fit(rows, labels)) is None


def test_columns_without_any_value_are_left_to_scikit_learn() -> None:
    rows, labels = data(missing=False)
    rows[:, 2] = np.nan
    with pytest.warns(UserWarning, match="Skipping features without any observed values"):
        fitted = make_pipeline(SimpleImputer(), LogisticRegression()).fit(rows, labels)
    assert not compiled(fitted).complete


TREES: list[tuple[BaseEstimator, str]] = [
    (RandomForestClassifier(30, random_state=0), "one-tree"),
    (RandomForestClassifier(1, random_state=0), "one-tree"),
    (RandomForestClassifier(7, max_depth=2, class_weight={0: 1, 1: 9}, random_state=0), "one-tree"),
    (ExtraTreesClassifier(30, random_state=0), "one-tree"),
    (GradientBoostingClassifier(n_estimators=30, random_state=0), "treelite"),
    (HistGradientBoostingClassifier(max_iter=30, random_state=0), "treelite"),
]


def thresholds(estimator: Any) -> list[tuple[int, float]]:
    """Every (column, threshold) at which a tree of the ensemble decides."""
    if hasattr(estimator, "_predictors"):
        nodes = np.concatenate([p.nodes for stage in estimator._predictors for p in stage])
        inner = nodes[nodes["is_leaf"] == 0]
        return list(zip(inner["feature_idx"].tolist(), inner["num_threshold"], strict=True))
    found: list[tuple[int, float]] = []
    for member in np.ravel(np.asarray(estimator.estimators_, dtype=object)):
        tree = member.tree_
        inner = tree.children_left != -1
        found += zip(tree.feature[inner].tolist(), tree.threshold[inner], strict=True)
    return found


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("estimator", "engine"), TREES)
def test_trees_decide_alike_at_their_very_thresholds(
    estimator: Any, engine: str, missing: bool
) -> None:
    rows, labels = data(missing=missing)
    if missing and isinstance(estimator, GradientBoostingClassifier):
        pytest.skip("it takes no missing values")
    fitted = estimator.fit(rows, labels)
    made = compiled(fitted)
    assert (made.name, made.complete) == (engine, True)
    random = np.random.default_rng(1)
    # A threshold is infinite where only missing values go the other way.
    at = [(column, value) for column, value in thresholds(fitted) if abs(value) < 1e30]
    probe = rows[random.integers(0, len(rows), 6 * len(at))]
    for index, (column, threshold) in enumerate(at):
        single = np.float32(threshold)
        probe[6 * index : 6 * index + 6, column] = [
            threshold,
            np.nextafter(threshold, np.inf),
            np.nextafter(threshold, -np.inf),
            single,
            np.nextafter(single, np.float32(np.inf)),
            np.nextafter(single, np.float32(-np.inf)),
        ]
    expected = fitted.predict_proba(probe)[:, 1]
    np.testing.assert_allclose(made.scores(probe), expected, rtol=0, atol=1e-14)
    one_by_one = [made.scores(probe[i : i + 1])[0] for i in range(50)]
    np.testing.assert_allclose(one_by_one, expected[:50], rtol=0, atol=1e-14)


def test_a_forest_too_large_to_be_held_twice_goes_to_treelite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, labels = data(missing=False)
    fitted = RandomForestClassifier(5, random_state=0).fit(rows, labels)
    monkeypatch.setattr(forest, "MOST_NODES", 10)
    made = compiled(fitted)
    assert made.name == "treelite"
    np.testing.assert_allclose(
        made.scores(rows), fitted.predict_proba(rows)[:, 1], rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("parts_of", ["one tree", "some trees", "all trees"])
def test_a_forest_of_several_parts_scores_as_one(
    monkeypatch: pytest.MonkeyPatch, parts_of: str
) -> None:
    rows, labels = data(missing=False)
    fitted = RandomForestClassifier(9, random_state=0).fit(rows, labels)
    sizes = [each.tree_.node_count for each in fitted.estimators_]
    most = {"one tree": 1, "some trees": 3 * max(sizes), "all trees": sum(sizes)}[parts_of]
    monkeypatch.setattr(forest, "PART_NODES", most)
    parts = forest._parts(sizes)
    assert [number for part in parts for number in range(len(sizes))[part]] == list(range(9))
    assert all(sum(sizes[part]) <= most or part.stop - part.start == 1 for part in parts)
    assert len(parts) in {"one tree": [9], "some trees": range(2, 5), "all trees": [1]}[parts_of]
    scores = forest.one_tree(fitted)
    assert scores is not None
    for some in (rows, rows[:1]):
        np.testing.assert_array_equal(scores(some), fitted.predict_proba(some)[:, 1])


@pytest.mark.parametrize(
    "kind",
    [
        RandomForestClassifier(20, random_state=0),
        RandomForestClassifier(20, max_leaf_nodes=9, random_state=0),  # built in another order
        RandomForestClassifier(1, random_state=0),
        RandomForestClassifier(3, min_samples_split=1.0, max_depth=1, random_state=0),
    ],
    ids=str,
)
@pytest.mark.parametrize("same", [False, True], ids=["", "nothing to learn"])
def test_joined_trees_have_each_share_once_and_the_heavier_child_next(
    kind: Any, same: bool
) -> None:
    rows, labels = data(missing=True)
    fitted = clone(kind).fit(np.zeros_like(rows) if same else rows, labels)
    trees = [each.tree_ for each in fitted.estimators_]
    shares = [forest.shares_of(tree) for tree in trees]
    apply, positive = forest._join(trees, shares, COLUMNS)
    nodes = apply.__self__.__getstate__()["nodes"]  # type: ignore[attr-defined]
    leaves = nodes["left_child"] < 0
    ends = [share[tree.children_left < 0] for share, tree in zip(shares, trees, strict=True)]
    np.testing.assert_array_equal(positive[leaves], np.unique(np.concatenate(ends)))
    inner = sum(int((tree.children_left >= 0).sum()) for tree in trees)
    router = len(trees) - 1
    assert len(nodes) - leaves.sum() == router + inner
    for number in range(router, router + inner):
        children = [nodes[number][side] for side in ("left_child", "right_child")]
        branches = [child for child in children if not leaves[child]]
        if branches:
            assert max(
                branches, key=lambda child: nodes[child]["n_node_samples"]
            ) == number + 1 or (
                np.ptp(nodes[branches]["n_node_samples"]) == 0 and number + 1 in branches
            )


def test_a_tree_is_placed_well_if_the_allocator_has_such_a_place() -> None:
    rows, labels = data(missing=False)
    [tree] = RandomForestClassifier(1, random_state=0).fit(rows, labels).estimators_
    made: list[Any] = []

    def make() -> Any:
        made.append(copy.deepcopy(tree.tree_))
        return made[-1]

    found = forest._well_placed(make)
    places = [each.__getstate__()["nodes"].ctypes.data % 64 for each in made]
    assert found is made[-1]
    assert 48 not in places[:-1]
    assert places[-1] == 48 or len(made) == 8


@pytest.mark.parametrize(
    "last",
    [
        RandomForestClassifier(5, random_state=0),
        ExtraTreesClassifier(5, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
    ],
    ids=lambda last: type(last).__name__,
)
def test_numbers_that_a_step_leads_beyond_float32_are_refused_as_scikit_learn_does(
    last: Any,
) -> None:
    rows, labels = data(missing=False)
    fitted = make_pipeline(FunctionTransformer(np.square), last).fit(rows, labels)
    made = compiled(fitted).scores
    for count in (1, 50, 1000):
        some = np.resize(rows, (count, rows.shape[1]))
        some[count // 2, 1] = 1e18
        np.testing.assert_allclose(made(some), fitted.predict_proba(some)[:, 1], atol=1e-14)
        some[count // 2, 1] = -1e20
        for scores in (fitted.predict_proba, made):
            with np.errstate(over="ignore"), pytest.raises(ValueError, match="too large"):
                scores(some)


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
def test_a_forest_answers_the_same_whatever_way_the_rows_take(
    monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    rows, labels = data(missing=False)
    fitted = kind(30, random_state=0).fit(rows, labels)
    expected = fitted.predict_proba(rows)[:, 1]
    for few, cells in ((len(rows), forest.CELLS), (0, forest.CELLS), (len(rows), 1)):
        monkeypatch.setattr(forest, "FEW_ROWS", few)  # joined; tree by tree; too large to copy
        monkeypatch.setattr(forest, "CELLS", cells)
        scores = forest.one_tree(fitted)
        assert scores is not None
        np.testing.assert_allclose(scores(rows), expected, rtol=0, atol=1e-15)
        np.testing.assert_allclose(scores(np.asfortranarray(rows)), expected, rtol=0, atol=1e-15)


def test_a_forest_takes_few_rows_one_way_and_many_another(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = data(missing=False)
    fitted = RandomForestClassifier(5, random_state=0).fit(rows, labels)
    taken: list[tuple[str, int]] = []
    for name in ("joined", "tree_by_tree"):

        def made(*_: Any, way: str = name) -> Callable[..., Any]:
            def scores(some: Any) -> Any:
                taken.append((way, len(some)))
                return np.zeros(len(some))

            return scores

        monkeypatch.setattr(forest, name, made)
    scores = forest.one_tree(fitted)
    assert scores is not None
    scores(rows[: forest.FEW_ROWS])
    scores(rows[: forest.FEW_ROWS + 1])
    assert taken == [("joined", forest.FEW_ROWS), ("tree_by_tree", forest.FEW_ROWS + 1)]


def test_ranks_of_a_lone_row_are_those_of_many() -> None:
    rows, _ = data(missing=False)
    step = QuantileTransformer(n_quantiles=100, random_state=0).fit(rows)
    transform = _quantile_transformer(step)
    assert transform is not None
    knots = step.quantiles_[::7]
    ends = np.full((4, COLUMNS), [[-np.inf], [np.inf], [np.nan], [0.0]])
    tried = np.vstack(
        (rows, knots, np.nextafter(knots, np.inf), np.nextafter(knots, -np.inf), ends)
    )
    alone = np.vstack([transform(tried[i : i + 1]) for i in range(len(tried))])
    np.testing.assert_allclose(alone, transform(tried), rtol=0, atol=1e-15)


@pytest.mark.parametrize("apart", [1, 2])
def test_quantiles_that_are_neighbouring_floats_are_left_to_scikit_learn(apart: int) -> None:
    low = high = 0.3
    for _ in range(apart):
        high = float(np.nextafter(high, 1))
    column = np.array([0.1] * 5 + [low] * 10 + [high] * 10 + [0.9] * 5)
    labels = np.arange(30) % 2
    step = QuantileTransformer(n_quantiles=30, random_state=0)
    fitted = make_pipeline(step, LogisticRegression()).fit(column[:, np.newaxis], labels)
    made = compiled(fitted)
    assert not made.complete
    rows = np.array([[0.1], [low], [high], [0.5], [0.9]])
    np.testing.assert_allclose(
        made.scores(rows), fitted.predict_proba(rows)[:, 1], rtol=0, atol=1e-14
    )
