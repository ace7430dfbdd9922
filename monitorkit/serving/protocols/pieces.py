"""JSON with long arrays, read in pieces: nobody waits for the interpreter until a text is read."""

from __future__ import annotations

import re
import secrets
from typing import Any

from pydantic_core import from_json

PIECE_BYTES = 32 * 1024
"""Read at once: 0.7 ms of numbers. 2 MB would take 40 ms, in which nothing else runs."""

_GUESSES = 8
"""Wrong ones before the text is read as a whole; each costs as much as a piece."""

_LOOKS = 10
"""So many times the length of a text is looked through for the ends of its arrays; real ones need
two or three, and one that has only beginnings would take as many as it has bytes."""

_LEAST = 100
"""Bytes that a look counts as at least: it takes as long as that, however near the end is."""

_ENDS = {
    b"[": (b"]]", re.compile(rb"\]\s*\]")),
    b"{": (b"}]", re.compile(rb"\}\s*\]")),
}
"""How an array of arrays and one of objects end: mostly, and in any case."""


def parse(body: bytes | bytearray, nested: bytes = b"[{") -> Any:
    """The value of a JSON text; a bare NaN or Infinity is a float.

    A long array is cut out, read in pieces and put back. Where an array begins and ends, and where
    it is cut, is a guess; the result is none: the pieces are arrays of at least one value, so what
    they were cut from is one of the same values, and what is left of the text is JSON that has a
    random word where the array was, so an array may stand there. Else the text is read as a whole.

    Args:
        body: the text.
        nested: what may begin the first value of a long array that is cut: `[`, `{` or both. Arrays
            of plain values are always cut.

    Raises:
        ValueError: it is no JSON.
    """
    if len(body) < PIECE_BYTES:
        return from_json(body)
    text = bytes(body)
    rest, arrays = _cut_out(text, nested)
    if not arrays:
        return from_json(text)
    try:
        value = _put_back(from_json(rest), arrays)
    except ValueError:
        return from_json(text)
    # A name that is given twice counts as its last value, and an array may have been the first.
    return from_json(text) if arrays else value


def _cut_out(text: bytes, nested: bytes) -> tuple[bytes, dict[str, list[Any]]]:
    """The text with words instead of its long arrays, and the arrays by these words."""
    arrays: dict[str, list[Any]] = {}
    rest: list[bytes] = []
    kept = start = wrong = 0
    looks = _LOOKS * len(text)
    last = {begin: text.rfind(usual) for begin, (usual, _) in _ENDS.items()}
    while looks > 0 and wrong < _GUESSES and (start := text.find(b"[", start)) >= 0:
        first = text[start + 1 : start + 100].lstrip()[:1]
        if first and first in nested:
            end = _end(text, start, first, last[first])
            separator = _ENDS[first][0][:1] + b","
        else:
            end, separator = text.find(b"]", start), b","
        looks -= max((end if end >= 0 else len(text)) - start, _LEAST)
        if end - start >= PIECE_BYTES:
            array = _in_pieces(text, start + 1, end, separator)
            if array is not None:
                word = secrets.token_hex(16)
                arrays[word] = array
                rest += [text[kept:start], b'"', word.encode(), b'"']
                kept = start = end + 1
                continue
            wrong += 1
        start += 1
    rest.append(text[kept:])
    return b"".join(rest), arrays


def _end(text: bytes, start: int, first: bytes, last: int) -> int:
    """Where the array of arrays or objects ends that begins at `start`, or -1."""
    usual, any_ = _ENDS[first]
    if start <= last:  # where the last one ends in the usual way
        return text.find(usual, start) + 1
    match = any_.search(text, start)
    return match.end() - 1 if match else -1


def _in_pieces(text: bytes, start: int, end: int, separator: bytes) -> list[Any] | None:
    """The values between two brackets; None: a piece is no array of values."""
    values: list[Any] = []
    while start <= end:
        comma = text.find(separator, min(start + PIECE_BYTES, end), end)
        stop = comma + len(separator) - 1 if comma >= 0 else end
        try:
            piece = from_json(b"[%b]" % text[start:stop])
        except ValueError:
            return None
        if not piece:
            return None
        values += piece
        start = stop + 1
    return values


def _put_back(value: Any, arrays: dict[str, list[Any]]) -> Any:
    """The value with the arrays in their places; each is taken out of `arrays`."""
    if isinstance(value, str):
        return arrays.pop(value, value)
    if isinstance(value, dict):
        return {name: _put_back(item, arrays) for name, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, arrays) for item in value]
    return value
