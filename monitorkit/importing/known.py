"""Which rows the log and its archives hold already: the same prediction_id and timestamp.

An id of ours, which begins with the row's time, is enough: other stores keep times in milliseconds.

Rows are compared by a hash of 64 bits of both, so that a hundred million of them need no memory.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from monitorkit.prediction_log import segment
from monitorkit.prediction_log.compressed import is_of_the_disk
from monitorkit.prediction_log.folder import Folder, Found, damaged, last_timestamp
from monitorkit.prediction_log.folders import each_once
from monitorkit.prediction_log.rows import FIXED
from monitorkit.units import timestamp

Keys = NDArray[np.int64]

LARGEST_RUN = 4 * 1024 * 1024
IN_MEMORY = 256 * 1024
"""Longer runs are kept in a file."""

BLOCK_BYTES = 4 * 1024 * 1024
BATCH_ROWS = 65_536

SET_BACK = timedelta(days=1)
"""So far a clock may have been set back in a segment, whose first row is not its earliest then."""

_OWN_BYTES = len("00000000-0000-0000-0000-000000000000,0000-00-00T00:00:00.000000Z")

_KEY = re.compile(rb"^(%b,%b)," % (segment.ID_FIELD, segment.TIMESTAMP), re.MULTILINE)


def keys(lines: Sequence[bytes]) -> Keys:
    """The keys of lines of the log: of their first two fields."""
    matches = zip(map(_KEY.match, lines), lines, strict=True)
    return np.fromiter((_key(m[1]) if m else hash(line) for m, line in matches), np.int64)


def _key(fields: bytes) -> int:
    """The key of an id and a timestamp as a line has them."""
    if fields.startswith(b'"'):
        identity, _, stamp = fields[1:].rpartition(b'",')
        fields = identity.replace(b'""', b'"') + b"," + stamp
    return _plain_key(fields)


def _plain_key(fields: bytes) -> int:
    """The same of an id without quotation marks around it."""
    own = segment.own_id(fields + b",") if len(fields) == _OWN_BYTES else None
    return hash(fields) if own is None else hash(own.lower())  # some stores write them so


class KeySet:
    """A set of keys: sorted runs, which are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def add(self, some: Keys) -> None:
        """Add keys."""
        run = np.sort(some)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            if len(self._runs[-1]) + len(run) > LARGEST_RUN:
                break
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        if len(run) > IN_MEMORY:
            run = _on_disk(run)
        if len(run):
            self._runs.append(run)

    def holds(self, some: Keys) -> NDArray[np.bool_]:
        """(keys,) whether each is in it."""
        found = np.zeros(len(some), dtype=np.bool_)
        order = np.argsort(some)
        ordered = some[order]  # neighbours look at the same page
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, ordered), len(run) - 1)
            found[order] |= run[at] == ordered
        return found


@dataclass(frozen=True, slots=True)
class _Segment:
    folder: Folder
    found: Found
    first: str
    last: str | None


class KnownRows:
    """The rows that are in a log, and those that come into it.

    Only segments that overlap in time with what is asked for are read, each one once.

    Args:
        folders: of the log.
        stack: closes what is open meanwhile: the files that take rows.

    Raises:
        ArchiveUnreachable: an archive cannot be read, now or in a check.
    """

    def __init__(self, folders: Sequence[Folder], stack: ExitStack) -> None:
        self._folders = folders
        self._unread = [_segment(*each) for each in each_once(folders, stack)]
        self.stems = frozenset(each.found.name.stem for each in self._unread)
        self._logged = KeySet()
        self._new = KeySet()

    def check(
        self, lines: Sequence[bytes], stamps: Sequence[str]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows are there already, and which came before since this object was made.

        What is neither comes before all that is checked next.

        Args:
            lines: at least one, as the log has them.
            stamps: their timestamps.
        """
        first, last = min(stamps), max(stamps)
        for each in list(self._unread):
            if each.first <= last and (each.last is None or first <= each.last):
                self._unread.remove(each)
                self._read(each)
        these = keys(lines)
        logged = self._logged.holds(these)
        again = self._new.holds(these)
        _, firsts = np.unique(these, return_index=True)
        repeated = np.ones(len(these), dtype=np.bool_)
        repeated[firsts] = False
        again = (again | repeated) & ~logged
        self._new.add(these[~(again | logged)])
        return logged, again

    def _read(self, each: _Segment) -> None:
        with ExitStack() as stack:
            file, folder, found = each.folder.stream(each.found, stack), each.folder, each.found
            if file is None:  # it was compressed, or moved to another of the folders
                for folder, found in each_once(self._folders, stack):
                    if found.identity == each.found.identity:
                        file = folder.stream(found, stack)
                        break
            if file is None:  # nor is it there: somebody deleted it
                return
            if found.compressed is None:
                for block in _blocks(file):
                    self._logged.add(block)
                return
            try:
                for block in _compressed_blocks(file):
                    self._logged.add(block)
            except (OSError, ValueError, KeyError) as error:  # what pyarrow makes of damage
                if is_of_the_disk(error):
                    raise
                damaged(folder.file(found.name.text), error)


def _segment(folder: Folder, found: Found) -> _Segment:
    """A segment with the times between which its rows are, as far as they are known."""
    name, first = found.name, found.head.first_timestamp
    stamps = [stamp for stamp in (_as_written(name.time) if name.closed else None, first) if stamp]
    last = last_timestamp(folder, found) if found.ended else None
    return _Segment(folder, found, _earliest(min(stamps)) if stamps else "", last)


def _earliest(first: str) -> str:
    """No row of a segment is earlier, of which one is the first."""
    try:
        return timestamp(datetime.fromisoformat(first) - SET_BACK)
    except (ValueError, OverflowError):  # somebody edited it, or it is of the year 1
        return ""


def _as_written(name: str) -> str:
    """The timestamp in a segment's name as rows have it."""
    return f"{name[:4]}-{name[4:6]}-{name[6:11]}:{name[11:13]}:{name[13:]}"


def _blocks(file: BinaryIO) -> Iterator[Keys]:
    """The keys of a CSV file, some of them at once."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        whole, mark, rest = (rest + block).rpartition(b"\n")
        yield np.fromiter(map(_key, _KEY.findall(whole + mark)), np.int64)


def _compressed_blocks(file: BinaryIO) -> Iterator[Keys]:
    """The same of a closed segment that was compressed: our columns, as in the CSV file."""
    import pyarrow as pa  # noqa: PLC0415 - most logs hold none
    from pyarrow import parquet  # noqa: PLC0415

    with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
        for part in opened.iter_batches(batch_size=BATCH_ROWS, columns=list(FIXED[:2])):
            ids = part.column(0).cast(pa.string()).to_pylist()
            times = part.column(1).cast(pa.timestamp("us")).to_numpy()
            rows = zip(ids, np.datetime_as_string(times).tolist(), strict=True)
            yield np.fromiter((_plain_key(f"{i},{t}Z".encode()) for i, t in rows), np.int64)


def _on_disk(run: Keys) -> Keys:
    """The same keys in a file that nobody else sees, and that is gone with this process."""
    with tempfile.TemporaryFile() as file:
        file.write(run.tobytes())
        file.flush()
        if os.name == "nt":  # a mapped file cannot be deleted there
            return run
        return np.memmap(file, dtype=np.int64, mode="r", shape=run.shape)
