"""Evidently's DataDriftPreset on a bounded sample: the rows with the smallest hash of their id."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit import (
    SCORE_COLUMN,
    Chunk,
    Finding,
    Judgement,
    Monitor,
    Options,
    Timeline,
    excluded,
    hookimpl,
)

REPORT = "evidently_drift.html"

BINS = 32
"""As many as Evidently makes of a column at most: ten, or what Sturges' and Doane's rules give."""

# Deprecations inside Evidently's dependencies when it is imported: ours to know of, not to mend.
IMPORT_WARNINGS = (
    "Call to deprecated function 'Dependency'",
    "Use of deprecated class 'DependencyKwarg'",
    "numpy.core is deprecated",
)
ARITHMETIC = r"(evidently|numpy|pandas|scipy)\."
"""Where Evidently's numbers are made."""


class EvidentlyOptions(Options):
    """Options.

    Attributes:
        sample: rows that are compared at most, of the window and of the reference.
        drift_share: the data set drifts from this share of drifted columns on.
    """

    sample: int = Field(default=2000, ge=1)
    drift_share: float = Field(default=0.5, gt=0, le=1)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The k rows with the smallest hashes, sorted by hash and, where those tie, by their values.

    Attributes:
        rows: rows that it was drawn from.
        hashes: (k,) uint64.
        features: (k, columns) float64.
        scores: (k,) float64.
    """

    rows: int
    hashes: NDArray[np.uint64]
    features: NDArray[np.float64]
    scores: NDArray[np.float64]


class EvidentlyDrift(Monitor[EvidentlyOptions, Sample]):
    """Finds `evidently_drift` per column and `evidently_dataset_drift`, with Evidently's verdicts.

    Its page is attached at the first cycle, when a verdict changed, and on request.
    """

    options_type = EvidentlyOptions

    def __init__(self, options: EvidentlyOptions, reference: Chunk) -> None:
        super().__init__(options, reference)
        row_numbers = np.arange(len(reference), dtype=np.uint64)
        self._reference = _smallest(
            len(reference),
            _mixed(row_numbers),
            reference.features,
            reference.scores,
            options.sample,
        )

    def summarise(self, chunk: Chunk) -> Sample:
        """Keep the rows with the smallest hashes."""
        hashes = hash_ids(chunk.ids)
        return _smallest(len(chunk), hashes, chunk.features, chunk.scores, self.options.sample)

    def merge(self, left: Sample, right: Sample) -> Sample:
        """The smallest hashes of both: those of all the rows, in whatever order they came."""
        return _smallest(
            left.rows + right.rows,
            np.concatenate((left.hashes, right.hashes)),
            np.concatenate((left.features, right.features)),
            np.concatenate((left.scores, right.scores)),
            self.options.sample,
        )

    def judge(self, timeline: Timeline[Sample], previous: Sequence[Finding]) -> Judgement:
        """Run Evidently over the columns that it can compare."""
        sample = timeline.all()
        if sample is None:
            return Judgement([])
        usable: list[int] = []
        findings: list[Finding] = []
        names = (*self.reference.columns, SCORE_COLUMN)
        for index, name in enumerate(names):
            reason = _nothing_to_compare(_column(self._reference, index), _column(sample, index))
            if reason is None:
                usable.append(index)
            else:
                findings.append(excluded(name, reason))
        if not usable:
            return Judgement([self._dataset(sample, []), *findings])
        with _quiet():
            snapshot = self._run(sample, {names[index]: index for index in usable})
            measured = [
                _finding(metric)
                for metric in snapshot.dict()["metrics"]
                if metric["config"]["type"].endswith(":ValueDrift")
            ]
            dataset = self._dataset(sample, measured)
            verdicts = _verdicts([*measured, dataset])
            attachments = {}
            if timeline.report_requested or not previous or verdicts != _verdicts(previous):
                page = _with_names_as_text(snapshot.get_html_str(as_iframe=False), names)
                attachments[REPORT] = page.encode()
        return Judgement([dataset, *measured, *findings], attachments)

    def _run(self, sample: Sample, columns: Mapping[str, int]) -> Any:
        # Read when Evidently is imported: it must not call home.
        os.environ.setdefault("DO_NOT_TRACK", "1")
        # Evidently takes 5 s to import, which only a judging process shall pay.
        import pandas as pd  # noqa: PLC0415 - lazy, see above
        from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415 - lazy, see above
        from evidently.presets import DataDriftPreset  # noqa: PLC0415 - lazy, see above

        # Stated, for Evidently would take a feature with few values for a category.
        definition = DataDefinition(numerical_columns=list(columns))
        window, reference = (
            Dataset.from_pandas(
                pd.DataFrame({name: _column(part, index) for name, index in columns.items()}),
                data_definition=definition,
            )
            for part in (sample, self._reference)
        )
        preset = DataDriftPreset(drift_share=self.options.drift_share, include_tests=False)
        return Report([preset]).run(window, reference)

    def _dataset(self, sample: Sample, measured: Sequence[Finding]) -> Finding:
        drifted = sum(bool(finding.drift) for finding in measured)
        share = drifted / len(measured) if measured else None
        detail: dict[str, Any] = {
            "drifted_columns": drifted,
            "columns": len(measured),
            "sample_rows": len(sample.scores),
            "window_rows": sample.rows,
            "reference_sample_rows": len(self._reference.scores),
            "reference_rows": self._reference.rows,
            "bound": self.options.sample,
        }
        if share is None:
            detail["reason"] = "no column can be compared"
        return Finding(
            "evidently_dataset_drift",
            share,
            statistic="share of drifted columns",
            threshold=self.options.drift_share,
            drift=None if share is None else share >= self.options.drift_share,
            detail=detail,
        )


def hash_ids(ids: NDArray[np.str_]) -> NDArray[np.uint64]:
    """A stable 64-bit hash of each id: the same in every process and whatever the array's width.

    Multilinear hashing of the code points (D. Lemire, O. Kaser, "Strongly universal string hashing
    is fast", The Computer Journal 57 (2014), 1624-1638), then splitmix64's finaliser.

    Args:
        ids: (rows,) strings.

    Returns:
        (rows,) uint64.
    """
    rows = len(ids)
    text = np.ascontiguousarray(ids, dtype=np.str_)
    width = text.dtype.itemsize // 4
    points = text.view(np.uint32).reshape(rows, width)
    factors = _mixed(np.arange(1, width + 1, dtype=np.uint64)) | np.uint64(1)
    total = np.zeros(rows, np.uint64)
    for place in range(width):
        total += points[:, place] * factors[place]
    return _mixed(total)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64: every bit of the result depends on every bit of the number."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _smallest(
    rows: int,
    hashes: NDArray[np.uint64],
    features: NDArray[np.float64],
    scores: NDArray[np.float64],
    bound: int,
) -> Sample:
    """The sample of some rows, copied, so that it never holds on to the chunk."""
    if hashes.size > bound:
        # Everything up to the bound's hash, ties included: the sort below decides among them.
        chosen = np.flatnonzero(hashes <= np.partition(hashes, bound - 1)[bound - 1])
        hashes, features, scores = hashes[chosen], features[chosen], scores[chosen]
    # Adding zero makes -0.0 and 0.0, which sort alike, one and the same value.
    features, scores = features + 0.0, scores + 0.0
    order = np.lexsort((*features.T, scores, hashes))[:bound]
    return Sample(rows, hashes[order], features[order], scores[order])


def _column(sample: Sample, index: int) -> NDArray[np.float64]:
    return sample.scores if index == sample.features.shape[1] else sample.features[:, index]


def _with_names_as_text(page: str, names: Sequence[str]) -> str:
    """Evidently's page, in which no name of a column can end the script that holds it.

    It writes names into JSON in a `<script>`, as they are; `</script>` in one would end that.
    """
    for name in names:
        if "<" in name:
            for written in (json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]):
                page = page.replace(written, written.replace("<", "\\u003c"))
    return page


def _nothing_to_compare(reference: NDArray[np.float64], window: NDArray[np.float64]) -> str | None:
    reference, window = reference[np.isfinite(reference)], window[np.isfinite(window)]
    if not reference.size:
        return "no values in the reference"
    if not window.size:
        return "no values in the window"
    if np.all(reference == reference[0]) and np.all(window == reference[0]):
        return "constant: one and the same value in the reference and the window"
    for values, where in ((reference, "reference"), (window, "window")):
        if not _have_bins(values):
            return (
                f"in the {where} its values are so large, for how far they are apart, that "
                "Evidently has no bins for its histogram"
            )
    return None


def _have_bins(values: NDArray[np.float64]) -> bool:
    """Whether there are numbers between the values; else Evidently fails, for all columns."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            edges = np.histogram_bin_edges(values, bins=BINS)
    except ValueError:
        return False
    return bool(np.isfinite(edges).all())


def _finding(metric: Mapping[str, Any]) -> Finding:
    """One of Evidently's column results; a p-value drifts below its threshold, a distance above."""
    config, value = metric["config"], float(metric["value"])
    method, threshold = str(config["method"]), float(config["threshold"])
    of_test = "p_value" in method
    finite = bool(np.isfinite(value))
    return Finding(
        "evidently_drift",
        value if finite else None,
        column=str(config["column"]),
        statistic=method,
        p_value=value if of_test and finite else None,
        threshold=threshold,
        drift=(value < threshold if of_test else value >= threshold) if finite else None,
        detail={} if finite else {"reason": f"Evidently computed {value}"},
    )


def _verdicts(findings: Sequence[Finding]) -> dict[tuple[str, str | None], bool | None]:
    return {
        (finding.measure, finding.column): finding.drift
        for finding in findings
        if finding.measure.startswith("evidently_")
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep third-party warnings that nobody here can act on out of the log."""
    with warnings.catch_warnings():
        for message in IMPORT_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        # Arithmetic on what clients send: a value that the reference never had is divided by zero
        # (and drifts, with a p-value of 0), 1e300 has no square, a constant column no correlation.
        # What comes out as no number is a finding's reason.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=ARITHMETIC)
        yield


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `evidently_drift`."""
    return {"evidently_drift": EvidentlyDrift}
