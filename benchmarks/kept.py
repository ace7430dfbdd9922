"""Results of a long benchmark in a file of JSON lines, so that it goes on where it was ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

Key = tuple[str | int, ...]


class Kept:
    """What was found, by key.

    Args:
        file: of JSON lines, appended to; None: nothing is kept.
        sources: code that it depends on. What was found by other code is not used.
    """

    def __init__(self, file: Path | None, sources: Sequence[Path] = ()) -> None:
        self._file, self._known = file, {}
        code = b"".join(path.read_bytes() for path in sources)
        self._code = hashlib.sha256(code).hexdigest()[:16]
        if file is not None and file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                of, key, value = json.loads(line)
                if of == self._code:
                    self._known[tuple(key)] = value

    _known: dict[Key, Any]

    def find(
        self,
        pool: ProcessPoolExecutor,
        what: Callable[[Key], Any],
        keys: Sequence[Key],
        go_on: Callable[[], bool],
        at_once: int = 8,
    ) -> Iterator[tuple[Key, Any]]:
        """Of each key, what is kept or found now, in the order of the keys while one may go on.

        Args:
            pool: where it is found.
            what: finds it; its answer can be written as JSON.
            keys: of all that is asked for.
            go_on: asked before each part of new ones.
            at_once: so many new ones are asked for at once.
        """
        new = [key for key in keys if key not in self._known]
        for begin in range(0, len(new), at_once):
            if not go_on():
                break
            part = new[begin : begin + at_once]
            for key, value in zip(part, pool.map(what, part), strict=True):
                self._keep(key, value)
        yield from ((key, self._known[key]) for key in keys if key in self._known)

    def _keep(self, key: Key, value: Any) -> None:
        self._known[key] = value
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._code, key, value]) + "\n")
