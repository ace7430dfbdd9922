"""The frozen reference: written once, and checked byte for byte whenever it is read."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit import durable
from monitorkit.errors import (
    DataError,
    ReferenceChanged,
    ReferenceExists,
    ReferenceMissing,
    ReferenceUnreadable,
    SchemaError,
)
from monitorkit.schema import FeatureSchema
from monitorkit.units import timestamp

SCHEMA_VERSION = 1
DATA = "reference_data.csv"
METADATA = "reference_metadata.json"

PURPOSE = (
    "What the model's input looked like when it was approved; every monitoring cycle compares the "
    "live rows with it."
)
MUTATION_POLICY = (
    "Frozen. These files never change: monitoring stops when a byte differs from its SHA-256. To "
    "start over with another reference, move this folder away and run bootstrap."
)

_LARGEST_WHOLE = 2.0**53
_EMPTY = '""'  # a line with nothing on it is no row to most readers


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a reference.

    Attributes:
        created_at: when it was frozen, ISO-8601 UTC.
        source: where its rows come from.
        num_samples, num_features: its shape.
        reference_hash: SHA-256 of the data file's bytes.
        purpose, mutation_policy: for whoever finds the folder.
        features: column names, in order.
        schema: the features that the model reads.
        model_version: the model that was served when it was frozen.
    """

    created_at: str
    source: str
    num_samples: int
    num_features: int
    reference_hash: str
    purpose: str
    mutation_policy: str
    features: tuple[str, ...]
    schema: FeatureSchema
    model_version: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A verified reference.

    Attributes:
        metadata: what is known of it.
        features: (rows, columns) float64, NaN where missing; not writable.
    """

    metadata: Metadata
    features: NDArray[np.float64]


def exists(folder: Path) -> bool:
    """Whether something was frozen here; `verify` says whether it still is what it was."""
    return any(os.path.lexists(folder / name) for name in (DATA, METADATA))


def freeze(
    folder: Path,
    features: NDArray[np.float64],
    schema: FeatureSchema,
    *,
    source: str,
    model_version: str,
) -> Metadata:
    """Write the reference, once; a crash leaves all of it or nothing.

    Args:
        folder: made here, or empty.
        features: (rows, columns) float64 in schema order, NaN where missing.
        schema: of the columns.
        source: where the rows come from, for people.
        model_version: the model that is served.

    Raises:
        ReferenceExists: there is one.
        DataError: there are no rows, or a value is infinite.
        SchemaError: the columns are not those of the schema.
        OSError: it cannot be written.
    """
    refuse_existing(folder)
    data = _encode(features, schema, source)
    metadata = Metadata(
        created_at=timestamp(datetime.now(UTC)),
        source=source,
        num_samples=features.shape[0],
        num_features=features.shape[1],
        reference_hash=hashlib.sha256(data).hexdigest(),
        purpose=PURPOSE,
        mutation_policy=MUTATION_POLICY,
        features=schema.names,
        schema=schema,
        model_version=model_version,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    durable.clear_leftovers(folder.parent, folder.name)
    temporary = durable.beside(folder)
    try:
        temporary.mkdir()
        for name, content in ((DATA, data), (METADATA, _document(metadata))):
            durable.write_file(temporary / name, content)
            (temporary / name).chmod(0o444)
        durable.sync_folder(temporary)
        _rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    durable.sync_folder(folder.parent)
    return metadata


def verify(folder: Path) -> Metadata:
    """Check every byte of the reference against its SHA-256.

    Raises:
        ReferenceMissing: there is none, or one of its files is gone.
        ReferenceChanged: a byte differs.
        ReferenceUnreadable: it is not what monitorkit wrote.
    """
    metadata, _ = _read(folder)
    return metadata


def load(folder: Path) -> Reference:
    """Read the reference; the bytes that are parsed are those that were checked.

    Raises:
        ReferenceProblem: as `verify`.
    """
    metadata, data = _read(folder)
    try:
        features = _decode(data, metadata)
    except (ValueError, csv.Error) as error:
        raise ReferenceUnreadable(
            str(folder / DATA), f"it does not fit {METADATA}: {error}"
        ) from error
    return Reference(metadata, features)


def refuse_existing(folder: Path) -> None:
    """Make sure that nothing was frozen here.

    Raises:
        ReferenceExists: something was; a reference never changes.
        ReferenceUnreadable: nobody can tell.
    """
    try:
        if folder.is_dir() and not any(folder.iterdir()) and not folder.is_symlink():
            return
    except OSError as error:
        raise ReferenceUnreadable(str(folder), _reason(error)) from error
    if os.path.lexists(folder):
        raise ReferenceExists(str(folder), _frozen_at(folder))


def _frozen_at(folder: Path) -> str:
    """For a refusal, so the metadata need not be sound."""
    try:
        return str(json.loads((folder / METADATA).read_bytes())["created_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown time"


def _rename(temporary: Path, folder: Path) -> None:
    """Put the finished folder in its place, which may hold an empty one."""
    try:
        if os.name == "nt" and folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        # Another process was faster: its reference stands.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ReferenceExists(str(folder), _frozen_at(folder)) from error
        raise


def _read(folder: Path) -> tuple[Metadata, bytes]:
    """The metadata, and the bytes of the data with the hash that it states."""
    if folder.is_symlink():
        raise ReferenceUnreadable(str(folder), f"it is a symbolic link to {folder.readlink()}")
    if not folder.is_dir():
        raise ReferenceMissing(str(folder))
    found = {name: os.path.lexists(folder / name) for name in (METADATA, DATA)}
    if not any(found.values()):
        raise ReferenceMissing(str(folder))
    for name, there in found.items():
        if not there:
            raise ReferenceMissing(str(folder), f"{name} is gone")
    path = folder / METADATA
    metadata = _metadata(path, _bytes(path))
    path = folder / DATA
    if path.is_symlink():
        link = f"a symbolic link to {path.readlink()}"
        raise ReferenceChanged(str(path), metadata.reference_hash, link)
    data = _bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != metadata.reference_hash:
        raise ReferenceChanged(str(path), metadata.reference_hash, digest)
    return metadata, data


def _bytes(path: Path) -> bytes:
    """The content of a regular file: no link is followed, and no pipe waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ReferenceUnreadable(str(path), "it is not a regular file")
            return file.read()
    except FileNotFoundError as error:
        raise ReferenceMissing(str(path.parent), f"{path.name} is gone") from error
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else _reason(error)
        raise ReferenceUnreadable(str(path), reason) from error


def _metadata(path: Path, content: bytes) -> Metadata:
    """Parse the metadata, and check it against the hash of itself."""
    try:
        document = json.loads(content)
        if document["schema_version"] != SCHEMA_VERSION:
            problem = f"schema_version {document['schema_version']!r} is not {SCHEMA_VERSION}"
            raise ReferenceUnreadable(str(path), problem)
        stated = str(document.pop("metadata_hash"))
        found = _hash(document)
        if found != stated:
            raise ReferenceChanged(str(path), stated, found)
        values = {
            field.name: document[field.name] for field in fields(Metadata) if field.name != "schema"
        }
        schema = FeatureSchema.from_json(document["feature_schema"])
        return replace(Metadata(schema=schema, **values), features=tuple(values["features"]))
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SchemaError,
    ) as error:
        raise ReferenceUnreadable(
            str(path), f"it is not what bootstrap wrote: {_reason(error)}"
        ) from error


def _document(metadata: Metadata) -> bytes:
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for field in fields(metadata):
        if field.name == "schema":
            document["feature_schema"] = metadata.schema.to_json()
        else:
            value = getattr(metadata, field.name)
            document[field.name] = list(value) if isinstance(value, tuple) else value
    # So that an edit here is found as well as one in the data.
    document["metadata_hash"] = _hash(document)
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def _hash(document: Mapping[str, Any]) -> str:
    """SHA-256 of what a document says, whatever its layout."""
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def _encode(features: NDArray[np.float64], schema: FeatureSchema, source: str) -> bytes:
    """CSV: floats as `repr` writes them, whole numbers without `.0`, missing values empty."""
    names = schema.names
    if features.ndim != 2 or features.shape[1] != len(names):  # noqa: PLR2004 - rows and columns
        raise SchemaError(
            "(all)",
            f"the reference has shape {features.shape}, the schema {len(names)} features",
            "Give one column for each feature, in schema order.",
        )
    if not len(features):
        raise DataError(source, "there are no rows", "A reference needs rows to compare with.")
    infinite = np.argwhere(np.isinf(features))
    if infinite.size:
        row, column = infinite[0]
        raise DataError(
            source,
            "a value is infinite",
            "Correct it, or leave it empty if it is unknown.",
            line=int(row) + 2,
            column=names[column],
        )
    columns = [
        [_text(value, feature.type == "integer") for value in features[:, index].tolist()]
        for index, feature in enumerate(schema.features)
    ]
    if len(columns) == 1:
        columns = [[text or _EMPTY for text in columns[0]]]
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerow(names)
    lines = [",".join(row) for row in zip(*columns, strict=True)]
    return (head.getvalue() + "\n".join(lines) + "\n").encode()


def _text(value: float, whole: bool) -> str:
    if value != value:  # noqa: PLR0124 - NaN is not itself
        return ""
    if whole and value.is_integer() and abs(value) <= _LARGEST_WHOLE:
        return str(int(value))
    return repr(value)


class _Numbers(dict[bytes, float]):
    """Texts to numbers; most features repeat theirs, and looking up is faster than parsing."""

    def __missing__(self, text: bytes) -> float:
        value = self[text] = float("nan") if text in (b"", _EMPTY.encode()) else float(text)
        return value


def _decode(data: bytes, metadata: Metadata) -> NDArray[np.float64]:
    """Parse what `_encode` wrote; the header is the only line that may hold quotes.

    Raises:
        ValueError: when it has another shape or other columns than the metadata say.
    """
    head, _, body = data.partition(b"\n")
    names = next(csv.reader([head.decode()]))
    if tuple(names) != metadata.features or metadata.features != metadata.schema.names:
        raise ValueError("the columns differ")
    if not body.endswith(b"\n"):
        raise ValueError("the last line is not complete")
    rows, columns = body.count(b"\n"), len(names)
    texts = body[:-1].replace(b"\n", b",").split(b",")
    if (rows, columns) != (metadata.num_samples, metadata.num_features):
        raise ValueError(f"{rows} rows of {columns} columns")
    if len(texts) != rows * columns:
        raise ValueError(f"{len(texts)} values in {rows} rows of {columns} columns")
    values = np.fromiter(map(_Numbers().__getitem__, texts), np.float64, len(texts))
    features = values.reshape(rows, columns)
    if np.isinf(features).any():
        raise ValueError("a value is infinite")
    features.flags.writeable = False
    return features


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
