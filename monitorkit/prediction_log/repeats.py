"""`Repeats`: which of any number of ids come more than once, in bounded memory.

An id is known by 64 bits of its hash, which this process alone knows how to make; whoever is told
that one came twice looks at the ids themselves.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]

IN_MEMORY = 4 * 1024 * 1024
"""More keys go to files: 32 MiB."""

PARTS = 128
"""Files; a billion keys are 64 MiB in each, of which one is in memory at a time."""


def keys(ids: NDArray[np.str_]) -> Keys:
    """(rows,) the keys of some ids."""
    return np.fromiter(map(hash, ids.tolist()), np.int64, len(ids))


class Repeats:
    """Takes keys, and says in the end which came more than once. Use it in a `with`."""

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._held: list[Keys] = []
        self._number = 0
        self._files: list[IO[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, some: Keys) -> None:
        """Take keys.

        Raises:
            OSError: the folder for temporary files is full.
        """
        self._held.append(some)
        self._number += len(some)
        if self._number > self._in_memory:
            self._put_away()

    def found(self) -> Keys:
        """The keys that came more than once, each once.

        Raises:
            OSError: as `add`.
        """
        if not self._files:
            return _repeated(np.concatenate([np.empty(0, np.int64), *self._held]))
        self._put_away()
        parts = []
        for file in self._files:
            file.seek(0)
            parts.append(_repeated(np.frombuffer(file.read(), np.int64)))
        return np.concatenate(parts)

    def _put_away(self) -> None:
        while len(self._files) < PARTS:
            self._files.append(
                self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it closes it
            )
        all_of_them = np.sort(np.concatenate([np.empty(0, np.int64), *self._held]))
        parts = np.searchsorted(all_of_them, _EDGES)
        for each, part in zip(self._files, np.split(all_of_them, parts), strict=True):
            each.write(part.tobytes())
        self._held, self._number = [], 0


_EDGES = np.array([(part << 64) // PARTS - (1 << 63) for part in range(1, PARTS)], np.int64)


def _repeated(some: Keys) -> Keys:
    ordered = np.sort(some)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
