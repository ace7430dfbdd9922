"""`Trust`: what a model's file may do when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FileForm = Literal["skops", "pickle"]
"""How a model is saved."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the configuration allows; by itself as good as nothing.

    Attributes:
        types: that a skops file may hold beyond skops' own list.
        pickles: whether a pickle is read. It runs whatever code its maker put into it.
    """

    types: tuple[str, ...] = ()
    pickles: bool = False
