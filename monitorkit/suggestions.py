"""What somebody may have meant who wrote a word that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_ALIKE = 0.6
"""Ratio of `difflib` from which on two words are alike; it takes the same for its own."""


def suggestion(word: str, known: Sequence[str], quote: str = "'") -> str:
    """The end of an error: the word that is near, or all that there are.

    Args:
        word: what was written.
        known: what could have been.
        quote: around the word that is near; keys of the configuration stand in backticks.
    """
    near = difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)
    if near:
        return f"; did you mean {quote}{near[0]}{quote}?"
    return f"; there are: {', '.join(known) or 'none'}"
