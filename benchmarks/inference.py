"""What scoring costs, by the number of rows: `python -m benchmarks.inference`, two minutes.

The ways to score with one model take turns, on rows that differ from each other: ours, and
scikit-learn's `predict_proba` with arrays, one thread and without the checks. Of a forest also each
of our two ways alone, the second one without its sorting, and treelite, which serves what is too
large for them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import servers
from benchmarks.machine import facts, say
from benchmarks.servers import MODELS
from monitorkit import compiled, forest
from monitorkit.training import synthetic

Rows = NDArray[np.float64]
Way = Callable[[Rows], Rows]

RESULT = Path(__file__).with_name("results") / "inference.md"
SIZES = (1, 10, 100, 200, 1_000, 10_000)
SECONDS = 0.4  # of each way with each number of rows
AT_MOST = 1e-12
HEAD = """# Scoring

Made by `python -m benchmarks.inference`, in which stands how. Milliseconds that a call takes with
so many rows, the median of calls in turn; every way gives the same scores.
"""


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    lines = [HEAD, *(f"- {fact}" for fact in facts())]
    columns = "".join(f" {size:,} |" for size in SIZES)
    lines += [f"\n| model | way |{columns}", f"|---|---|{'---:|' * len(SIZES)}"]
    values, _ = synthetic.applicants(max(SIZES), 1)
    rows = np.column_stack(list(values.values()))
    with tempfile.TemporaryDirectory(prefix="monitorkit-inference-") as name:
        for kind in MODELS:
            place = Path(name) / kind
            servers.prepare(place, kind)
            for way, times in measure(ways(fitted(place)), rows).items():
                cells = "".join(f" {milliseconds:.2f} |" for milliseconds in times)
                lines.append(f"| {kind} | {way} |{cells}")
                say(lines[-1])
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def fitted(place: Path) -> Any:
    """The pipeline that was trained in a folder, for one thread and without names of columns."""
    import joblib  # type: ignore[import-untyped] # noqa: PLC0415 - comes with scikit-learn

    pipeline = joblib.load(place / "model.joblib")
    for step in (pipeline, *pipeline):
        vars(step).pop("feature_names_in_", None)
    return pipeline


def ways(pipeline: Any) -> dict[str, Way]:
    """The ways to score with a pipeline."""
    from sklearn import config_context  # noqa: PLC0415 - a second, when it is needed

    def scikit_learn(rows: Rows) -> Rows:
        with config_context(assume_finite=True, skip_parameter_validation=True):
            found: Rows = pipeline.predict_proba(rows)[:, 1]
            return found

    ours = compiled.compile_estimator(pipeline)
    if ours is None:
        raise SystemExit("The model is not one that monitorkit compiles.")
    found = {"scikit-learn": scikit_learn, f"monitorkit ({ours.name})": ours.scores}
    classifier = pipeline[-1]
    if ours.name == "one-tree":
        [imputer] = pipeline[:-1]
        trees = [each.tree_ for each in classifier.estimators_]
        shares = [forest.shares_of(tree) for tree in trees]
        joined = forest.joined(trees, shares, classifier.n_features_in_)
        many = forest.tree_by_tree([tree.apply for tree in trees], shares)
        treelite = compiled.in_treelite(classifier, rounding=True)

        def before(rows: Rows) -> Rows:  # as `compiled` does it
            return np.where(np.isnan(rows), imputer.statistics_, rows)

        found["all trees in one call"] = lambda rows: joined(before(rows))
        found["tree by tree, sorted"] = lambda rows: many(before(rows))
        found["tree by tree, as they come"] = lambda rows: _unsorted(trees, shares, before(rows))
        found["treelite"] = lambda rows: treelite(before(rows))
    return found


def _unsorted(trees: list[Any], shares: list[Rows], rows: Rows) -> Rows:
    given = rows.astype(np.float32, order="C")
    total = np.zeros(len(rows))
    for tree, share in zip(trees, shares, strict=True):
        total += share[tree.apply(given)]
    found: Rows = total / len(trees)
    return found


def measure(ways: Mapping[str, Way], rows: Rows) -> dict[str, list[float]]:
    """The milliseconds that each way takes with each number of rows.

    Raises:
        RuntimeError: a way gives other scores.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for size in SIZES:
        some = rows[:size]
        expected = next(iter(ways.values()))(some)
        for name, way in ways.items():
            difference = float(np.abs(way(some) - expected).max())
            if not difference <= AT_MOST:
                raise RuntimeError(f"{name} differs by {difference:g} with {size} rows")
        times: dict[str, list[float]] = defaultdict(list)
        deadline = time.perf_counter() + SECONDS * len(ways)
        while time.perf_counter() < deadline or len(times[name]) < 3:
            for name, way in ways.items():
                started = time.perf_counter()
                way(some)
                times[name].append((time.perf_counter() - started) * 1000)
        for name, taken in times.items():
            found[name].append(statistics.median(taken))
    return found


if __name__ == "__main__":
    main()
