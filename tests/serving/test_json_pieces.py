"""JSON that is read in pieces is the same JSON, and nothing long is read at once."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from monitorkit.serving.protocols import pieces

SMALL = 24
QUOTE = b'"'
LONG = b"[1,2,3,4,5,6,7,8,9,10,11,12]"

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9999)
    | st.floats()
    | st.sampled_from(["", "]", "[[", "}]", "],", '"', "\\", "[1,2,3,4,5,6,7,8,9,10,11,12,13]"])
)
inner = st.lists(scalars, max_size=5) | st.dictionaries(st.sampled_from("ab]"), scalars, max_size=3)
arrays = st.lists(scalars, max_size=40) | st.lists(inner, max_size=15)
documents = st.recursive(
    arrays | scalars,
    lambda each: (
        st.dictionaries(st.sampled_from(["a", "b", "[", "]]"]), each, max_size=3)
        | st.lists(each, max_size=3)
    ),
    max_leaves=6,
)
texts = st.builds(
    json.dumps,
    documents,
    indent=st.none() | st.integers(0, 2),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
).map(str.encode)
openings = st.sampled_from([b"[", b"{", b"[{", b""])


def outcome(text: bytes, **options: Any) -> Any:
    """The value, as text because NaN is not itself, or that there is none."""
    try:
        value = pieces.parse(text, **options) if options else from_json(text)
    except ValueError:
        return ValueError
    return repr(value)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", SMALL)


fast = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.usefixtures("small")
@fast
@given(texts, openings)
def test_any_json(text: bytes, nested: bytes) -> None:
    assert outcome(text, nested=nested) == outcome(text)


@pytest.mark.usefixtures("small")
@fast
@given(
    texts,
    st.integers(0, 300),
    st.integers(0, 3),
    st.sampled_from([b"", b",", b"]", b"[", b"}", QUOTE, b"\\", b"\xff", LONG]),
    openings,
)
def test_any_json_with_something_put_in_or_cut_out(
    text: bytes, position: int, cut: int, noise: bytes, nested: bytes
) -> None:
    position = min(position, len(text))
    for changed in (text[:position] + noise + text[position + cut :], text[:position] + noise):
        assert outcome(changed, nested=nested) == outcome(changed)


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        LONG[:-1] + b",]",
        b"[," + LONG[1:],
        LONG.replace(b"9,", b"9,,"),
        LONG + b"]",
        LONG + LONG,
        b"{" + LONG + b":3}",
        b'{"a":' + LONG + b',"a":3}',
        b'{"a":3,"a":' + LONG + b"}",
        b'"' + LONG + b'"',
        b'"\\' + LONG + b', "',
        b'["x", ' + LONG + b', "y", [' + LONG + b"," + LONG + b"]]",
        b"[" * 100 + LONG + b"]" * 100,
        b"[" * 3000,
        b"[" * 3000 + LONG + b"]" * 3000,
        b'[{"a":[[1,2],[3,4]]},{"a":[[5,6],[7,8]]}]',
        b"[[1,2],[3,4],[5,6],[7,8],[9,10]\x0c]",
    ],
)
@pytest.mark.parametrize("nested", [b"[", b"{", b"[{", b""])
@pytest.mark.usefixtures("small")
def test_what_only_looks_like_it(text: bytes, nested: bytes) -> None:
    assert outcome(text, nested=nested) == outcome(text)


@functools.cache
def requests() -> dict[str, tuple[bytes, bytes]]:
    """What clients send, 10,000 rows of ten columns each."""
    table = np.random.default_rng(1).normal(0, 1e4, (10_000, 10))
    rows, names = table.tolist(), list("abcdefghij")
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: table[:, index].tolist() for index, name in enumerate(names)}
    split = {"index": list(range(10_000)), "columns": names, "data": rows}
    each = [
        {"name": name, "shape": [10_000, 1], "datatype": "FP64", "data": column}
        for name, column in columns.items()
    ]
    matrix = {"name": "x", "shape": [10_000, 10], "datatype": "FP64"}
    documents: dict[str, tuple[Any, bytes]] = {
        "split": ({"dataframe_split": split}, b"[{"),
        "split and params": ({"dataframe_split": split, "params": {}}, b"[{"),
        "records": ({"dataframe_records": records}, b"[{"),
        "instances": ({"instances": records}, b"[{"),
        "inputs": ({"inputs": columns}, b"[{"),
        "a tensor for each column": ({"inputs": each}, b"["),
        "one tensor": ({"inputs": [{**matrix, "data": table.ravel().tolist()}]}, b"["),
        "one tensor, data first": ({"inputs": [{"data": table.ravel().tolist(), **matrix}]}, b"["),
        "one nested tensor": ({"inputs": [{**matrix, "data": rows}], "outputs": []}, b"["),
    }
    return {
        f"{name}, {style}": (json.dumps(document, separators=separators).encode(), nested)
        for name, (document, nested) in documents.items()
        for style, separators in (("compact", (",", ":")), ("spaced", (", ", ": ")))
    }


@pytest.mark.parametrize("name", list(requests()))
def test_no_more_than_two_pieces_are_read_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, nested = requests()[name]
    read: list[int] = []

    def watched(part: bytes) -> Any:
        read.append(len(part))
        return from_json(part)

    monkeypatch.setattr(pieces, "from_json", watched)
    pieces.parse(text, nested)
    assert len(text) > 1_000_000
    assert max(read) < 2 * pieces.PIECE_BYTES
    assert sum(read) < 1.1 * len(text) + 2 * pieces.PIECE_BYTES
