"""The timeline on disk: one SQLite file, in which a cycle writes the buckets that are new.

Each track is a row of JSON (its cursor, and which buckets belong to it), each bucket a row with its
summary's bytes; both carry the SHA-256 of what they hold. A transaction leaves all of a cycle or
nothing of it. It is a cache: whatever is wrong with it costs the reading of the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from monitorkit import logs
from monitorkit.monitoring import encoding
from monitorkit.monitoring.timeline import Buckets, Kept, Track

log = logs.get(__name__)

FILE = "timeline.sqlite"
SCHEMA_VERSION = 4

_OF_THE_DISK = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""SQLite's primary result codes; the others speak of what is in the file."""

_PATIENCE = 5.0  # seconds for another process to end its transaction; cycles take turns anyhow
_TABLES = {
    "state": "generation TEXT NOT NULL",
    "tracks": "identity TEXT PRIMARY KEY, document TEXT NOT NULL, sha256 TEXT NOT NULL",
    "buckets": (
        "identity TEXT NOT NULL, version TEXT NOT NULL, step INTEGER NOT NULL,"
        ' level INTEGER NOT NULL, "rows" INTEGER NOT NULL, summary BLOB NOT NULL,'
        " sha256 TEXT NOT NULL, PRIMARY KEY (identity, version, step)"
    ),
}

T = TypeVar("T")

_Key = tuple[str, int]  # a model version, and a bucket's first step
_Digests = dict[_Key, tuple[Kept, str]]


class Damaged(Exception):  # noqa: N818 - it says what the file is, and never leaves this package
    """A stored track is not what was stored."""


class Store:
    """Where an engine keeps its tracks; another process may have written the file meanwhile.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._generation: str | None = None
        self.damaged = False
        """It was found to be so; the next `save` makes a new one."""
        self._saved: dict[str, _Digests] = {}  # what is in the file, as far as we put it there

    def look(self) -> Literal["ours", "others", "gone"]:
        """Whose the file is: as we left it, or written by another process; or there is none."""
        found = self._read_generation()
        if found is None:
            self._generation, self._saved = None, {}
            return "gone"
        return "ours" if found == self._generation else "others"

    def identities(self) -> set[str]:
        """The tracks in the file; what was known of it before is forgotten."""
        self._generation, self._saved = self._read_generation(), {}
        self.damaged = False
        self.check()
        if self.damaged:
            return set()
        found = self._ask(lambda file: file.execute("SELECT identity FROM tracks").fetchall())
        return {identity for (identity,) in found or ()}

    def check(self) -> None:
        """Look whether the file is sound; of one that is not, `save` makes a new one."""
        # Sound rows behind a damaged index would be written and never found again.
        sound = self._ask(lambda file: file.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if sound not in (None, "ok"):
            self._ignore(sound)

    def load(self, identity: str, kind: type[Any]) -> Track | None:
        """A track, with summaries of a class; None when it is not there, or cannot be trusted."""

        def read(file: sqlite3.Connection) -> Track | None:
            found = file.execute(
                "SELECT document, sha256 FROM tracks WHERE identity = ?", (identity,)
            ).fetchone()
            if found is None:
                return None
            buckets = file.execute(
                'SELECT version, step, level, "rows", summary, sha256 FROM buckets'
                " WHERE identity = ?",
                (identity,),
            )
            return self._restored(identity, kind, found, buckets)

        try:
            return self._ask(read)
        except (Damaged, ValueError, TypeError, KeyError, AttributeError) as error:
            self._ignore(f"{identity}: {error}")
            return None

    def save(self, tracks: Mapping[str, Track], others: Collection[str], first: int) -> None:
        """Write what changed since we wrote or read the file last.

        Args:
            tracks: by identity.
            others: stay as they are, until all of their buckets begin before `first`.
            first: a step.

        Raises:
            TypeError, ValueError: a summary cannot be kept; the file is as it was.
        """
        if self.damaged:  # nothing in it is to be trusted, tables and indices included
            self._remove()
        for attempt in (1, 2):
            try:
                self._save(tracks, others, first)
            except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
                if _is_the_disks(error):
                    log.warning("timeline_not_written", file=str(self.path), reason=str(error))
                    return
                self._ignore(str(error))
                if attempt == 1:
                    self._remove()
                    continue
            return

    def _save(self, tracks: Mapping[str, Track], others: Collection[str], first: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        generation = uuid.uuid4().hex
        saved: dict[str, _Digests] = {}
        with self._connected() as file:
            file.execute("BEGIN IMMEDIATE")
            self._prepare(file)
            for (identity,) in file.execute("SELECT identity FROM tracks").fetchall():
                known = identity in self._saved
                if not (identity in tracks and known) and identity not in others:
                    _delete(file, identity)
            for identity in others:
                latest = file.execute(
                    "SELECT max(step) FROM buckets WHERE identity = ?", (identity,)
                ).fetchone()[0]
                if latest is None or latest < first:
                    _delete(file, identity)
            for identity, track in tracks.items():
                saved[identity] = _write(file, identity, track, self._saved.get(identity, {}))
            file.execute("DELETE FROM state")
            file.execute("INSERT INTO state VALUES (?)", (generation,))
            file.execute("COMMIT")
        self._generation, self._saved = generation, saved

    def _restored(
        self, identity: str, kind: type[Any], track: tuple[str, str], rows: Iterator[Any]
    ) -> Track:
        document, sha256 = track
        if _sha256(identity, document) != sha256:
            raise Damaged("the checksum does not match")
        known = json.loads(document)
        expected = {
            (version, int(step)): digest
            for version, each in known["buckets"].items()
            for step, digest in each["sha256"].items()
        }
        versions = {v: Buckets(step=each["step"]) for v, each in known["buckets"].items()}
        digests: _Digests = {}
        for version, step, level, count, summary, digest in rows:
            if expected.pop((version, step), None) != digest:
                raise Damaged("a bucket does not belong to it")
            if _bucket_sha256(identity, (version, step), (level, count), summary) != digest:
                raise Damaged("a bucket's checksum does not match")
            kept = Kept(level, count, encoding.load_summary(kind, summary))
            versions[version].kept[step] = kept
            digests[version, step] = kept, digest
        if expected:
            raise Damaged("a bucket is missing")
        self._saved[identity] = digests
        return Track(
            cursor=known["cursor"],
            versions=versions,
            missing=set(known["missing"]),
            models=known["models"],
            since=known["since"],
        )

    def _read_generation(self) -> str | None:
        def read(file: sqlite3.Connection) -> str | None:
            if file.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                return None
            found = file.execute("SELECT generation FROM state").fetchone()
            return str(found[0]) if found is not None else None

        return self._ask(read)

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        """Look into the file; None when there is none, or it cannot be read, which is an event."""
        if not self.path.exists():
            return None
        try:
            with self._connected() as file:
                return question(file)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter of damaged names
            self._ignore(str(error), damaged=not _is_the_disks(error))
            return None

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # None: transactions begin where we say so.
        file = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        with contextlib.closing(file):
            # Of a new file: summaries are long, and take a quarter less time in long pages.
            file.execute("PRAGMA page_size = 16384")
            # The system's crash may cost the cache; ours does not.
            file.execute("PRAGMA synchronous = OFF")
            yield file

    def _prepare(self, file: sqlite3.Connection) -> None:
        """See to it that the tables are there, and are ours."""
        version = file.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version:
            log.info("timeline_ignored", file=str(self.path), reason=f"schema_version {version}")
        for table, columns in _TABLES.items():
            file.execute(f"DROP TABLE IF EXISTS {table}")
            file.execute(f"CREATE TABLE {table} ({columns})")
        file.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _ignore(self, reason: str, *, damaged: bool = True) -> None:
        self.damaged = self.damaged or damaged
        log.warning("timeline_ignored", file=str(self.path), reason=reason)

    def _remove(self) -> None:
        self._generation, self._saved, self.damaged = None, {}, False
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _is_the_disks(error: Exception) -> bool:
    """Whether the file may be sound, and only cannot be written now."""
    if isinstance(error, OSError):
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK


def _write(file: sqlite3.Connection, identity: str, track: Track, before: _Digests) -> _Digests:
    """Write one track: of its buckets those that changed, which are other objects then."""
    after: _Digests = {}
    for version, buckets in track.versions.items():
        for step, kept in buckets.kept.items():
            there = before.get((version, step))
            if there is not None and there[0] is kept:
                after[version, step] = there
                continue
            summary = encoding.dump_summary(kept.summary)
            digest = _bucket_sha256(identity, (version, step), (kept.level, kept.rows), summary)
            file.execute(
                "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?)",
                (identity, version, step, kept.level, kept.rows, summary, digest),
            )
            after[version, step] = kept, digest
    file.executemany(
        "DELETE FROM buckets WHERE identity = ? AND version = ? AND step = ?",
        [(identity, *key) for key in before.keys() - after.keys()],
    )
    document = json.dumps(
        {
            "cursor": dict(track.cursor),
            "missing": sorted(track.missing),
            "models": track.models,
            "since": track.since,
            "buckets": {
                version: {
                    "step": buckets.step,
                    "sha256": {str(step): after[version, step][1] for step in buckets.kept},
                }
                for version, buckets in track.versions.items()
            },
        },
        allow_nan=False,
    )
    file.execute(
        "INSERT OR REPLACE INTO tracks VALUES (?, ?, ?)",
        (identity, document, _sha256(identity, document)),
    )
    return after


def _delete(file: sqlite3.Connection, identity: str) -> None:
    for table in ("tracks", "buckets"):
        file.execute(f"DELETE FROM {table} WHERE identity = ?", (identity,))  # noqa: S608 - ours


def _bucket_sha256(identity: str, key: _Key, kept: tuple[int, int], summary: bytes) -> str:
    return _sha256(json.dumps([identity, *key, *kept]), summary)


def _sha256(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()
