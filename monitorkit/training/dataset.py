"""The data set: the real file or the synthetic one, its fingerprint, its schema and its split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit import logs, schema
from monitorkit.errors import DataError, SchemaError
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.settings import Data, Training
from monitorkit.training import synthetic as applicants
from monitorkit.training.table import MISSING, Table, content

SCHEMA_VERSION = 1

# What values of "Give Me Some Credit" mean, whatever the largest one in the file: type and bounds.
_DOMAIN: Mapping[str, Mapping[str, Any]] = {
    "RevolvingUtilizationOfUnsecuredLines": {"type": "number", "minimum": 0},
    "age": {"minimum": 0, "maximum": 120},
    "NumberOfTime30-59DaysPastDueNotWorse": {"minimum": 0, "maximum": 98},
    "DebtRatio": {"type": "number", "minimum": 0},
    "MonthlyIncome": {"type": "number", "minimum": 0},
    "NumberOfOpenCreditLinesAndLoans": {"minimum": 0, "maximum": 200},
    "NumberOfTimes90DaysLate": {"minimum": 0, "maximum": 98},
    "NumberRealEstateLoansOrLines": {"minimum": 0, "maximum": 200},
    "NumberOfTime60-89DaysPastDueNotWorse": {"minimum": 0, "maximum": 98},
    "NumberOfDependents": {"minimum": 0, "maximum": 50},
}
_IS_GIVE_ME_SOME_CREDIT = 5  # of its ten features; a file with so many is meant to have them all

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one data set from another.

    Attributes:
        sha256: of the file's bytes; of the CSV that it would be, for a synthetic set.
        rows: with a label.
        columns: features, in file order.
        missing: rows without a value, for each feature.
        duplicates: rows that repeat an earlier one, label and all.
    """

    sha256: str
    rows: int
    columns: tuple[str, ...]
    missing: Mapping[str, int]
    duplicates: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe form."""
        return {
            "schema_version": SCHEMA_VERSION,
            "sha256": self.sha256,
            "rows": self.rows,
            "columns": list(self.columns),
            "missing": dict(self.missing),
            "duplicates": self.duplicates,
        }


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled rows.

    Attributes:
        source: where they come from, for people.
        schema: of the features: types, nullability and bounds.
        features: (rows, columns) NaN where missing.
        labels: (rows,) two classes; integers, or strings where the file has other words.
        fingerprint: of the whole set, also in the parts that `split` makes.
    """

    source: str
    schema: FeatureSchema
    features: NDArray[np.float64]
    labels: NDArray[Any]
    fingerprint: Fingerprint

    @property
    def columns(self) -> tuple[str, ...]:
        """Feature names, in order."""
        return self.schema.names

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns that a model reads; whatever else a data set has, it need be no number.

    Attributes:
        names: of the columns.
        remedy: what to do when the data set lacks one of them.
    """

    names: Sequence[str]
    remedy: str

    def refuse_lack(self, source: str, columns: Sequence[str]) -> None:
        """Make sure that a data set has all of them.

        Raises:
            DataError: naming the first one that it has not.
        """
        for name in self.names:
            if name not in columns:
                problem = "the model reads this column, and the data set does not have it"
                raise DataError(source, problem, self.remedy, column=name)


def load(data: Data, wanted: Wanted | None = None) -> Dataset:
    """The configured file, or the synthetic set when there is no file.

    Args:
        data: says where it is.
        wanted: the features; None: every column but the target is one. The rows are the same.

    Raises:
        DataError: the file cannot be used; or there is none, and its target is another one.
    """
    if _is_absent(data.path):
        if data.target != applicants.TARGET:
            raise DataError(
                str(data.path),
                "there is no such file",
                "Put it there, or correct [data] path; the synthetic set, which stands in for a "
                f"missing file, has the target {applicants.TARGET!r}.",
            )
        dataset = synthetic(data.synthetic_rows, data.seed)
    else:
        dataset = _read(data.path, data.target, wanted)
    found = dataset.fingerprint
    log.info(
        "dataset_loaded",
        source=dataset.source,
        sha256=found.sha256,
        rows=found.rows,
        columns=len(found.columns),
        missing={name: count for name, count in found.missing.items() if count},
        duplicates=found.duplicates,
    )
    return dataset


def synthetic(rows: int, seed: int) -> Dataset:
    """The synthetic set, the same one for the same arguments.

    Args:
        rows: how many.
        seed: of everything random in it.

    Raises:
        DataError: so few rows that they are all of one class.
    """
    columns, labels = applicants.applicants(rows, seed)
    source = f"synthetic data ({rows} rows, seed {seed})"
    text = applicants.csv_text(columns, labels).encode()
    if len(set(labels.tolist())) == 1:
        raise DataError(source, "all rows are of one class", "Raise [data] synthetic_rows.")
    return _dataset(source, text, columns, labels)


def split(dataset: Dataset, *, test_share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split into training and held-out rows, both with the classes in their proportion.

    Args:
        dataset: to split; the same one gives the same parts.
        test_share: held out, between 0 and 1.
        seed: of the drawing.

    Raises:
        DataError: a part would lack a class.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - 1 s

    try:
        parts = train_test_split(
            np.arange(len(dataset)),
            test_size=test_share,
            random_state=seed,
            stratify=dataset.labels,
        )
    except ValueError as error:
        raise _too_small(dataset, test_share) from error
    if any(len(set(dataset.labels[rows].tolist())) == 1 for rows in parts):
        raise _too_small(dataset, test_share)
    train, held_out = (
        replace(dataset, features=dataset.features[rows], labels=dataset.labels[rows])
        for rows in parts
    )
    return train, held_out


def held_out(
    data: Data, training: Training, schema: FeatureSchema, remedy: str
) -> tuple[str, NDArray[np.float64]]:
    """The rows that no model has seen: where they come from, and (rows, columns) as a schema has.

    Raises:
        DataError: with the remedy, when a column is not there; else as `load` and `split`.
    """
    wanted = Wanted(schema.names, remedy)
    _, kept = split(load(data, wanted), test_share=training.test_share, seed=training.seed)
    wanted.refuse_lack(kept.source, kept.columns)  # a synthetic set has its own columns
    return kept.source, kept.features[:, [kept.columns.index(name) for name in schema.names]]


def load_features(path: Path, schema: FeatureSchema) -> NDArray[np.float64]:
    """The columns of a schema out of a CSV file, which may hold others, and labels, too.

    Args:
        path: of the file.
        schema: names the columns, in any of their spellings.

    Returns:
        (rows, columns) in the schema's order, NaN where missing.

    Raises:
        DataError: the file cannot be used, or lacks a column.
    """
    table = Table.read(path)
    spellings = schema.spellings
    names = [
        next((spelling for spelling in spellings[name] if spelling in table.header), name)
        for name in schema.names
    ]
    table.require(names, "The model reads it.")
    return np.column_stack([table.numbers(name) for name in names])


def _read(path: Path, target: str, wanted: Wanted | None) -> Dataset:
    bytes_ = content(path)
    table = Table(path, bytes_)
    table.require([target], "[data] target names the column to predict.")
    names = [name for name in table.columns if name != target]
    if not names:
        raise DataError(str(path), "there is no column beside the target", "Add features.", line=1)
    known = [name for name in applicants.COLUMNS if name in names]
    if target == applicants.TARGET and len(known) >= _IS_GIVE_ME_SOME_CREDIT:
        table.require(applicants.COLUMNS, 'A "Give Me Some Credit" file has ten features.')
    if wanted is not None:
        wanted.refuse_lack(str(path), names)
        names = [name for name in names if name in wanted.names]
    labels = _labels(table, target)
    columns = {name: table.numbers(name) for name in names}
    return _dataset(str(path), bytes_, columns, labels)


def _labels(table: Table, target: str) -> NDArray[Any]:
    """Classes as integers when they are written so, as words otherwise."""
    cells = table.cells(target)
    classes = sorted(set(cells))
    for missing in MISSING.intersection(classes):
        line = table.line(cells.index(missing))
        remedy = "Remove the row, or give it a label."
        raise DataError(table.path, "the label is missing", remedy, line=line, column=target)
    try:
        whole: dict[str, Any] = {word: float(word) for word in classes}
    except ValueError:
        whole = {}
    if whole and all(n.is_integer() and abs(n) < 2**53 for n in whole.values()):
        values: Mapping[str, Any] = {word: int(number) for word, number in whole.items()}
    else:
        values = {word: word for word in classes}
    count = len(set(values.values()))
    if count != 2:  # noqa: PLR2004 - binary
        some = ", ".join(repr(word) for word in classes[:4]) + (", ..." if count > 4 else "")  # noqa: PLR2004
        raise DataError(
            table.path,
            f"there are {count} classes ({some})" if count > 1 else f"all labels are {some}",
            "The target needs two classes: check [data] target, or the file.",
            column=target,
        )
    return np.array([values[cell] for cell in cells])


def _dataset(
    source: str,
    bytes_: bytes,
    columns: Mapping[str, NDArray[np.float64]],
    labels: NDArray[Any],
) -> Dataset:
    features = np.column_stack(list(columns.values()))
    fingerprint = Fingerprint(
        sha256=hashlib.sha256(bytes_).hexdigest(),
        rows=len(labels),
        columns=tuple(columns),
        missing={name: int(np.isnan(values).sum()) for name, values in columns.items()},
        duplicates=_duplicates(features, labels),
    )
    try:
        known = _schema(columns)
    except SchemaError as error:
        problem, name = error.problem, error.feature
        raise DataError(source, problem, error.remedy, line=1, column=name) from error
    return Dataset(source, known, features, labels, fingerprint)


def _duplicates(features: NDArray[np.float64], labels: NDArray[Any]) -> int:
    rows = np.column_stack([features, labels == labels[0]]) + 0.0  # so that -0.0 is 0.0
    rows[np.isnan(rows)] = np.nan  # one bit pattern
    as_bytes = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    return len(rows) - len(set(as_bytes.ravel().tolist()))


def _schema(columns: Mapping[str, NDArray[np.float64]]) -> FeatureSchema:
    """Inferred; the ten credit features get known bounds too, never narrower than the data."""
    inferred = schema.infer(columns)
    if not set(_DOMAIN) <= set(columns):
        return inferred
    return FeatureSchema(
        tuple(_bounded(feature, columns[feature.name]) for feature in inferred.features)
    )


def _bounded(feature: Feature, values: NDArray[np.float64]) -> Feature:
    known = dict(_DOMAIN.get(feature.name, {}))
    present = values[~np.isnan(values)]
    for key, extreme in (("minimum", np.min), ("maximum", np.max)):
        if key in known:
            known[key] = float(extreme(np.append(present, known[key])))
    return replace(feature, **known)


def _is_absent(path: Path) -> bool:
    """Nothing of that name; a link that leads nowhere, or a folder that is closed, is something."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _too_small(dataset: Dataset, test_share: float) -> DataError:
    classes, counts = np.unique(dataset.labels, return_counts=True)
    sizes = ", ".join(f"{count} of {name}" for name, count in zip(classes, counts, strict=True))
    return DataError(
        dataset.source,
        f"its rows ({sizes}) cannot be split so that both parts hold both classes, with "
        f"{test_share:.0%} held out",
        "Use more rows, or another [training] test_share.",
    )
