"""What passes between the parts of an import: a batch of rows, and rows that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Problem(NamedTuple):
    """What is wrong with a row.

    Attributes:
        kind: the same for all rows that are wrong in the same way.
        got: what was found in this one.
    """

    kind: str
    got: str | None = None

    def __str__(self) -> str:
        return self.kind if self.got is None else f"{self.kind}, not {self.got}"


class Reject(NamedTuple):
    """A row that is not taken.

    Attributes:
        line: on which it begins, from 1; of a Parquet file the number of the row.
        problems: at least one.
        raw: as it stands in the file, without its line end.
    """

    line: int
    problems: tuple[Problem, ...]
    raw: bytes

    @property
    def reason(self) -> str:
        """All that is wrong with it."""
        return "; ".join(map(str, self.problems))


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring rows of a file.

    Attributes:
        lines: (rows,) where each begins; see `Reject`.
        columns: by the file's names, pyarrow arrays of so many rows.
        raws: makes what `Reject.raw` is of each row.
        bad: what lies between them and is no row at all.
    """

    lines: Sequence[int]
    columns: Mapping[str, Any]
    raws: Callable[[], Sequence[bytes]]
    bad: Sequence[Reject] = ()

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.lines)


class Source(Protocol):
    """A file that can be imported.

    Attributes:
        columns: its names for them.
        header: the first line of a CSV file with such rows.
        delimiter: that separates the fields of such a line.
    """

    columns: tuple[str, ...]
    header: bytes
    delimiter: str

    @property
    def done(self) -> float:
        """The share of the file that was read."""

    def batches(self) -> Iterator[Batch]:
        """All rows, in the file's order."""

    def close(self) -> None:
        """Close the file."""
