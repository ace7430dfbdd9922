"""A table that leaves out what tells least where a terminal is too narrow for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP, NARROW_GAP = 3, 2
"""Between two columns."""

NAME = 40
"""Letters of a name for which other columns make room; longer ones are folded at need."""

_EDGES = 2


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Attributes:
        heading: above it.
        cells: a row each. `short`: the same in fewer words, where there is no room for these.
        right: whether they end below one another, as numbers do.
        spared: 0: it always stays; the others come in where there is room, the highest first.
    """

    heading: str
    cells: Sequence[str | Text]
    right: bool = False
    spared: int = 0
    short: Sequence[str | Text] = ()

    @property
    def width(self) -> int:
        """What its widest cell takes."""
        return max(cell_len(str(cell)) for cell in (self.heading, *self.cells))


def fitted(names: Field, fields: Sequence[Field], width: int) -> Table:
    """A table of names and of as many fields as there is room for, none of which is ever wrapped.

    Args:
        names: the first column; folded when even the fields that stay leave it too little room.
        fields: what is said of them.
        width: of the terminal.
    """
    room = width - _EDGES - min(names.width, NAME)
    gap = GAP if _taken(fields, GAP) <= room else NARROW_GAP
    if _taken([field for field in fields if not field.spared], gap) > room:
        fields = [replace(field, cells=field.short or field.cells) for field in fields]
    kept = {field.heading for field in fields if not field.spared}
    for field in sorted(fields, key=lambda field: -field.spared):
        tried = {*kept, field.heading}
        if _taken([each for each in fields if each.heading in tried], gap) <= room:
            kept = tried
    shown = [field for field in fields if field.heading in kept]
    # The box has a blank between two columns, too.
    padding = (0, 1, 0, 1 if gap == GAP else 0)
    table = Table(box=box.SIMPLE, pad_edge=False, padding=padding)
    table.add_column(names.heading, overflow="fold")
    for field in shown:
        table.add_column(field.heading, justify="right" if field.right else "left", no_wrap=True)
    for row in zip(names.cells, *(field.cells for field in shown), strict=True):
        table.add_row(*row)
    return table


def _taken(fields: Sequence[Field], gap: int) -> int:
    """By fields and the gaps before them."""
    return sum(field.width + gap for field in fields)
