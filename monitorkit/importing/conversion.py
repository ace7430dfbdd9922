"""Rows of a file as rows of our log, and all that is wrong with those that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.importing import cells, rejects, times
from monitorkit.importing.batch import Batch, Problem, Reject
from monitorkit.importing.cells import Numbers
from monitorkit.importing.columns import Columns
from monitorkit.importing.targets import Target, Targets
from monitorkit.importing.times import Microseconds, TimeFormat
from monitorkit.prediction_log import Prediction
from monitorkit.prediction_log.rows import FIXED
from monitorkit.schema import FeatureSchema
from monitorkit.training.table import MISSING

ID_LENGTH = 1000
"""A longer prediction_id is a mistake."""

_UNUSUAL = re.compile("[\r\n\0\ufeff]")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that our log can hold, of one schema and in the file's order.

    Attributes:
        schema: of them all.
        lines: (rows,) of the file.
        predictions: (rows,).
    """

    schema: FeatureSchema
    lines: NDArray[np.int64]
    predictions: Sequence[Prediction]


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of a batch: every row of it is in one of both."""

    rows: Sequence[Rows]
    rejects: Sequence[Reject]


class Converter:
    """Converts the batches of one file.

    Args:
        columns: of the file.
        targets: the model versions that it names.
        time_format: of its timestamps.
        version: of the model that made all rows; None: each row says its own.
        header: the file's first line: what ids are made of beside a row and its line, where it has
            none. In a rejects file they are those that the rows would have had.
        delimiter: that separates its fields.

    Raises:
        DataError: a column is missing.
        RegistryError: there is no such version, or the registry cannot be asked.
    """

    def __init__(
        self,
        columns: Columns,
        targets: Targets,
        time_format: TimeFormat,
        *,
        version: str | None,
        header: bytes,
        delimiter: str,
    ) -> None:
        needed = ("timestamp", "probability", *(("model_version",) if version is None else ()))
        columns.require(needed)
        self._columns = {name: columns.find(name) for name in FIXED}
        self._targets = targets
        self._time_format = time_format
        self._only = targets.only(version) if version is not None else None
        self._lines_before = []  # one more for each time that rows were rejected
        while (before := rejects.rows_begin(header, delimiter)) is not None:
            self._lines_before.append(before)
            _, _, header = header.split(delimiter.encode(), 2)
        self._salt = blake2b(header + b"\n", digest_size=10)

    def convert(self, batch: Batch) -> Converted:
        """Convert all rows of a batch.

        Raises:
            RegistryError: the registry cannot be asked for a version.
        """
        found = _Problems()
        rows = self._rows(batch, found) if batch.rows else []
        rejects = list(batch.bad)
        if found.by_row:
            raws = batch.raws()
            rejects += [Reject(batch.lines[n], tuple(p), raws[n]) for n, p in found.by_row.items()]
        return Converted(rows, sorted(rejects, key=lambda reject: reject.line))

    def _rows(self, batch: Batch, found: _Problems) -> list[Rows]:
        when = self._time_format.read(self._cells(batch, "timestamp"), datetime.now(UTC))
        score = cells.probability(self._cells(batch, "probability"))
        ids = self._ids(batch, when.values, found)
        found.add(when.problems)
        found.add(score.problems)
        predictions = np.empty(batch.rows, dtype=np.object_)
        schemas: dict[tuple[str, ...], tuple[FeatureSchema, list[NDArray[np.intp]]]] = {}
        for target, rows in self._by_version(batch, found):
            made = self._predictions(batch, target, rows, score.values, found)
            stamps = times.stamps(when.values[rows])
            for row, stamp, (label, values) in zip(rows.tolist(), stamps, made, strict=True):
                predictions[row] = Prediction(
                    ids[row],
                    stamp,
                    target.version,
                    target.classes[label],
                    float(score.values[row]),
                    values,
                )
            schemas.setdefault(target.schema.names, (target.schema, []))[1].append(rows)
        lines = np.asarray(batch.lines, dtype=np.int64)
        converted = []
        for schema, parts in schemas.values():
            good = found.without(np.sort(np.concatenate(parts)))
            if len(good):
                taken = predictions[good].tolist()
                converted.append(Rows(schema, lines[good], taken))
        return converted

    def _cells(self, batch: Batch, ours: str) -> Any:
        return batch.columns[self._columns[ours] or ""]

    def _by_version(
        self, batch: Batch, found: _Problems
    ) -> Iterator[tuple[Target, NDArray[np.intp]]]:
        """The model versions of a batch, and the rows of each."""
        if self._only is not None:
            yield self._only, np.arange(batch.rows)
            return
        words, codes = cells.distinct(self._cells(batch, "model_version"))
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(words) + 1))
        for code, word in enumerate(words):
            rows = order[edges[code] : edges[code + 1]]
            if not len(rows):
                continue
            target = self._targets.of(word)
            if isinstance(target, Target):
                yield target, rows
            else:
                found.add(dict.fromkeys(rows.tolist(), target))

    def _predictions(
        self,
        batch: Batch,
        target: Target,
        rows: NDArray[np.intp],
        scores: Numbers,
        found: _Problems,
    ) -> Iterator[tuple[int, list[float]]]:
        """The label and the features of each of some rows."""
        whole = len(rows) == batch.rows

        def taken(column: str) -> Any:
            return batch.columns[column] if whole else batch.columns[column].take(rows)

        given = self._columns["prediction"]
        labels = cells.labels(
            taken(given) if given is not None else None, scores[rows], target.classes
        )
        found.add(labels.problems, rows)
        matrix = np.empty((len(rows), len(target.columns)))
        for position, column in enumerate(target.columns):
            feature = target.schema.features[position]
            values = (
                cells.absent(len(rows), feature)
                if column is None
                else cells.feature(taken(column), feature)
            )
            matrix[:, position] = values.values
            found.add(values.problems, rows)
        return zip(labels.values.tolist(), matrix.tolist(), strict=True)

    def _ids(self, batch: Batch, when: Microseconds, found: _Problems) -> list[str]:
        """The rows' ids; made of what stands in the file where it has none."""
        if self._columns["prediction_id"] is None:
            return [
                self._made(line, raw, millisecond)
                for line, raw, millisecond in zip(
                    batch.lines, batch.raws(), (when // 1000).tolist(), strict=True
                )
            ]
        ids = cells.texts(self._cells(batch, "prediction_id"))
        problems: dict[int, Problem] = {}
        unusual = len(max(ids, key=len)) > ID_LENGTH or _UNUSUAL.search("".join(ids))
        if unusual or not MISSING.isdisjoint(ids):
            for row, text in enumerate(ids):
                problem = _wrong_id(text)
                if problem is not None:
                    problems[row] = Problem(f"prediction_id: {problem}")
                ids[row] = text.replace("\n", "\\n").replace("\r", "\\r")  # as the log has it
        found.add(problems)
        return ids

    def _made(self, line: int, raw: bytes, millisecond: int) -> str:
        """A UUID of version 8 that sorts by time, as our own ids do, and is always the same."""
        for line_before in self._lines_before:
            if (before := line_before.match(raw)) is None:
                break
            line, raw = int(before[1]), raw[before.end() :]
        digest = self._salt.copy()
        digest.update(b"%d\n" % line)
        digest.update(raw)
        bits = int.from_bytes(digest.digest()) >> 6  # the 74 that there is room for
        number = (millisecond & 0xFFFF_FFFF_FFFF) << 80 | 8 << 76 | bits >> 62 << 64
        text = f"{number | 2 << 62 | bits & (1 << 62) - 1:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Problems:
    """What is wrong with the rows of a batch."""

    def __init__(self) -> None:
        self.by_row: dict[int, list[Problem]] = {}

    def add(self, problems: Mapping[int, Problem], rows: NDArray[np.intp] | None = None) -> None:
        """Note problems by row, or by position among `rows`."""
        for row, problem in problems.items():
            at = row if rows is None else int(rows[row])
            self.by_row.setdefault(at, []).append(problem)

    def without(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those rows with which nothing is wrong."""
        if not self.by_row:
            return rows
        return rows[~np.isin(rows, np.fromiter(self.by_row, dtype=np.intp))]


def _wrong_id(text: str) -> str | None:
    if text in MISSING:
        return "is missing"
    if len(text) > ID_LENGTH:
        return f"must be at most {ID_LENGTH} characters"
    if "\0" in text or text.startswith("\ufeff"):
        return "must not hold NUL or begin with a byte order mark"
    return None
