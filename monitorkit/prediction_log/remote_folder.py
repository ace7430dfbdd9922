"""`RemoteFolder`: segments at any URL that fsspec knows, read by ranges of bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, cast

from monitorkit.errors import ArchiveUnreachable, MonitorkitError, told
from monitorkit.prediction_log import folder, names, segment, sidecar
from monitorkit.prediction_log.compressed import CompressedFile, read_compressed
from monitorkit.prediction_log.folder import Found
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.opened import Opened, OpenedLines
from monitorkit.prediction_log.segment import HEAD_BYTES, Read
from monitorkit.prediction_log.sidecar import Sidecar

AHEAD_BYTES = 64 * 1024
"""A shorter range costs a request as well."""

GROUP_BYTES = 4 * 1024 * 1024
"""Of a file that is read as a stream, in one request."""

AT_ONCE = 64
"""So many files are looked at together."""

_Stamp = tuple[Any, ...]


class RemoteFolder:
    """The segments at a URL. What was found of a file is remembered until the file changes.

    Args:
        url: of the folder.
        block_bytes: about how much of a CSV file is held in memory at once.
    """

    copies = True

    def __init__(self, url: str, *, block_bytes: int) -> None:
        self.where = url
        self._block_bytes = block_bytes
        self._place: tuple[Any, str] | None = None
        self._found: dict[str, tuple[_Stamp, Found | None]] = {}
        self._sidecars: dict[str, tuple[_Stamp, Sidecar | None]] = {}

    def file(self, name: str) -> str:
        """The URL of a file in it."""
        return f"{self.where.rstrip('/')}/{name}"

    def segments(self, stack: ExitStack) -> list[Found]:
        """The segments at one moment.

        Raises:
            ArchiveUnreachable: it cannot be listed or read.
        """
        del stack  # nothing stays open
        with reaching(self.where):
            files = self._list()
            listed = names.in_order(files)
            self._look(files, listed)
        known = (self._found[name.text][1] for name in listed)
        return [found for found in known if found is not None]

    def named(self, name: str, stack: ExitStack) -> Found | None:
        """The segment in one file."""
        known = self._found.get(name)
        if known is None:
            self.segments(stack)
            known = self._found.get(name)
        return known[1] if known is not None else None

    def opened(self, found: Found, stack: ExitStack) -> Opened | None:
        """Open a segment."""
        path, size = self._path(found.name.text), found.size
        if found.compressed is None:
            read = Ranges(self._reading(path, size), size)
            return OpenedLines(read, lambda: size, len(found.head.columns), self._block_bytes)
        try:
            return CompressedFile(self.stream(found, stack), found.compressed, self._block_bytes)
        except (OSError, ValueError, KeyError, TypeError) as error:  # what pyarrow makes of damage
            folder.damaged(self.file(found.name.text), error)
            return None

    def stream(self, found: Found, stack: ExitStack) -> BinaryIO:
        """A segment's file as it is.

        Raises:
            ArchiveUnreachable: it cannot be opened, or later cannot be read.
        """
        with reaching(self.where):
            path = self._path(found.name.text)
            file = self._connected()[0].open(path, "rb", block_size=GROUP_BYTES)
        return cast("BinaryIO", stack.enter_context(_Guarded(file, self.where)))

    def sidecar(self, found: Found) -> Sidecar | None:
        """The one that lay beside its file when the folder was listed."""
        _, known = self._sidecars.get(f"{found.name.stem}.json", ((), None))
        return known if known is not None and known.identity == found.identity else None

    def _connected(self) -> tuple[Any, str]:
        if self._place is None:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - only who has an archive needs it

            self._place = url_to_fs(self.where)
        return self._place

    def _path(self, name: str) -> str:
        return f"{self._connected()[1].rstrip('/')}/{name}"

    def _list(self) -> dict[str, Mapping[str, Any]]:
        system, root = self._connected()
        system.invalidate_cache(root)
        entries = system.ls(root, detail=True)
        files = [entry for entry in entries if entry["type"] == "file"]
        if any(entry.get("size") is None for entry in files):  # as of a web server's page
            raise ValueError("its listing does not say how long files are")
        return {entry["name"].rpartition("/")[2]: entry for entry in files}

    def _look(self, files: Mapping[str, Mapping[str, Any]], listed: Sequence[Name]) -> None:
        """Look at what is new among the files."""
        stamps = {text: _stamp(entry) for text, entry in files.items()}
        new = [n for n in listed if self._found.get(n.text, [None])[0] != stamps[n.text]]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            for name, at, data in self._first_ranges(some, files):
                size = files[name.text]["size"]
                read = Ranges(self._reading(self._path(name.text), size), size, at, data)
                self._found[name.text] = stamps[name.text], self._look_at(name, read, size)
        beside = [f"{name.stem}.json" for name in listed if not name.compressed]
        changed = [
            text
            for text in beside
            if text in files and self._sidecars.get(text, [None])[0] != stamps[text]
        ]
        for start in range(0, len(changed), AT_ONCE):
            some_texts = changed[start : start + AT_ONCE]
            contents = self._ranges([(text, 0, files[text]["size"]) for text in some_texts])
            for text, content in zip(some_texts, contents, strict=True):
                self._sidecars[text] = stamps[text], sidecar.parse(content)
        self._found = {name.text: self._found[name.text] for name in listed}
        self._sidecars = {text: self._sidecars[text] for text in beside if text in files}

    def _first_ranges(
        self, some: Sequence[Name], files: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[Name, int, bytes]]:
        """The range of each file in which it says what it is, with its offset."""
        wanted = []
        for name in some:
            size = files[name.text]["size"]
            if name.compressed:
                wanted.append((name.text, max(0, size - HEAD_BYTES), size))
            else:
                wanted.append((name.text, 0, min(2 * HEAD_BYTES, size)))
        for name, (_, at, _), data in zip(some, wanted, self._ranges(wanted), strict=True):
            yield name, at, data

    def _ranges(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Ranges of files, all in one go where the file system can do that."""
        some = [(self._path(text), start, end) for text, start, end in wanted if start < end]
        found: list[bytes] = []
        if some:
            paths, starts, ends = (list(each) for each in zip(*some, strict=True))
            found = self._connected()[0].cat_ranges(paths, starts, ends, on_error="raise")
        given = iter(found)
        return [bytes(next(given)) if start < end else b"" for _, start, end in wanted]

    def _look_at(self, name: Name, read: Read, size: int) -> Found | None:
        if name.compressed:
            compressed = read_compressed(read, size)
            if compressed is not None:
                return Found(name, compressed.head, compressed.bytes, True, size, compressed)
        else:
            head = segment.read_head(read)
            if head is not None and head.identity is not None:
                return Found(name, head, size, name.closed, size)
            if head is not None or segment.first_line(read) is None:
                return None
        folder.unknown_header(self.file(name.text))
        return None

    def _reading(self, path: str, size: int) -> Read:
        def read(count: int, offset: int) -> bytes:
            with reaching(self.where):
                system, _ = self._connected()
                return bytes(system.cat_file(path, start=offset, end=min(offset + count, size)))

        return read


@contextmanager
def reaching(archive: str) -> Iterator[None]:
    """Whatever a file system raises is told as one error.

    Raises:
        ArchiveUnreachable: naming the URL and what was raised.
    """
    try:
        yield
    except MonitorkitError:
        raise
    except Exception as error:  # each file system has its own
        raise ArchiveUnreachable(archive, told(error)) from error


class Ranges:
    """Reads ranges of a file, and keeps the last one for those that begin in it.

    Args:
        fetch: reads a range.
        size: of the file.
        at: the offset of what is there already.
        data: what is there already.
    """

    def __init__(self, fetch: Read, size: int, at: int = 0, data: bytes = b"") -> None:
        self._fetch = fetch
        self._size = size
        self._at = at
        self._data = data

    def __call__(self, count: int, offset: int) -> bytes:
        """So many bytes from an offset on, fewer at the end of the file."""
        end = min(offset + count, self._size)
        have = self._at + len(self._data)
        if not self._at <= offset < have:
            self._at, self._data, have = offset, b"", offset
        if end > have:
            more = self._fetch(max(end - have, AHEAD_BYTES), have)
            self._data = self._data[offset - self._at :] + more
            self._at = offset
        return self._data[offset - self._at : max(end, offset) - self._at]


class _Guarded(io.RawIOBase):
    """A file in which nothing that the network does looks like damage."""

    def __init__(self, file: Any, where: str) -> None:
        self._file = file
        self._where = where

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            raise ArchiveUnreachable(self._where, told(error)) from error

    def close(self) -> None:
        self._file.close()
        super().close()


def _stamp(entry: Mapping[str, Any]) -> _Stamp:
    """Tells whether a file was changed, as far as its file system says."""
    keys = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "created")
    return (entry["size"], *(str(entry[key]) for key in keys if key in entry))
