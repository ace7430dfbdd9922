"""Laws of the log that hold for any rows, any cut of the reading and any damage."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prediction_rows import SCHEMA, START, as_rows, ids, rows, stamp
from pyarrow import csv
from structlog.testing import capture_logs

from monitorkit.prediction_log import Block, Prediction, Reader, Writer
from monitorkit.prediction_log.parsing import parse
from monitorkit.prediction_log.rows import Formatter, header

HEADER = header(SCHEMA.names)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.lists(st.none() | finite, min_size=3, max_size=3)
texts = st.text(max_size=8) | st.sampled_from(
    ["1", "2", 'a"b', "a,b", "\n", "=1+1", "\ud800", "\0"]
)
labels = st.integers() | st.booleans() | st.text(max_size=5).filter(lambda text: "\0" not in text)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.datetimes(min_value=START.replace(tzinfo=None)).map(stamp),
            texts.filter(lambda text: "\0" not in text),
            labels,
            st.floats(0, 1),
            values,
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 400),
)
def test_what_is_written_is_what_is_read(given_rows: list[Any], block_bytes: int) -> None:
    made = [Prediction(f"id-{n}", *row) for n, row in enumerate(given_rows)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        async def write() -> None:
            writer = await Writer.open(folder, SCHEMA, durability="os", rotate_bytes=1_000)
            for row in made:
                await writer.append(SCHEMA, [row])
            assert writer.rows == len(made)
            await writer.close()

        with capture_logs():
            asyncio.run(write())
        reader = Reader(folder, block_bytes=block_bytes)
        found = as_rows(list(reader.read({})))
    assert reader.skipped == 0
    assert [(*row[:2], *row[3:4]) for row in found] == [
        (row.prediction_id, row.timestamp, row.probability) for row in made
    ]
    # repr tells -0.0 from 0.0
    assert [repr(row[4]) for row in found] == [
        repr([None if v is None else float(v) for v in row.features]) for row in made
    ]
    for row, back in zip(made, found, strict=True):
        if row.model_version.isprintable():
            assert back[2] == row.model_version


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("1123"), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
    st.lists(st.integers(1, 500), min_size=1, max_size=6),
    st.lists(st.integers(1, 5), min_size=1, max_size=10),
)
def test_any_stops_and_blocks_give_every_row_once_and_one_cursor(
    versions: list[str], edges: list[int], sizes: list[int], stops: list[int]
) -> None:
    """Segments at any edges, read in blocks of any size, stopped after any number of blocks."""
    made = [row for version in versions for row in rows(1, version=version)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuts = [0, *sorted({edge for edge in edges if 0 < edge < len(made)}), len(made)]
        for number, (first, last) in enumerate(pairwise(cuts)):
            live = last == len(made)
            path = folder / (
                "predictions.csv" if live else f"predictions-2026010{number}T000000.000000Z.csv"
            )
            path.write_bytes(HEADER + Formatter(SCHEMA).lines(made[first:last]))
        (*_, whole) = Reader(folder).read({})
        blocks: list[Block] = []
        cursor: dict[str, int] = {}
        step = 0
        while True:
            reading = Reader(folder, block_bytes=sizes[step % len(sizes)]).read(cursor)
            some = [
                block for block, _ in zip(reading, range(stops[step % len(stops)]), strict=False)
            ]
            if not some:
                break
            blocks += some
            cursor = dict(some[-1].cursor)
            step += 1
    assert [row[0] for row in as_rows(blocks)] == ids(made)
    assert [row[2] for row in as_rows(blocks)] == versions
    assert cursor == whole.cursor


damage = st.binary(min_size=1, max_size=12) | st.sampled_from(
    [b"\0", b'"', b"\n", b"\r", b"\r\n", b",", b"\xff", b"\xef\xbb\xbf", b"nan", b"-", b" ", b'""']
)


@settings(max_examples=300, deadline=None)
@example([(1, 0.0, 0, b"\0"), (2, 0.5, 0, b"\x80")], 92)  # refused in company, taken alone
@given(
    st.lists(
        st.tuples(st.integers(1, 10), st.floats(0, 1), st.integers(0, 12), damage), max_size=4
    ),
    st.integers(50, 1000),
)
def test_damage_never_raises_and_costs_only_the_lines_that_it_hit(
    hits: list[tuple[int, float, int, bytes]], block_bytes: int
) -> None:
    made = rows(12)
    text = [HEADER, *(Formatter(SCHEMA).lines([row]) for row in made)]
    hit = set()
    for line, where, length, noise in hits:  # inside a line, its newline excepted
        at = int(where * (len(text[line]) - 1))
        end = min(at + length, len(text[line]) - 1)
        text[line] = text[line][:at] + noise + text[line][end:]
        hit.add(line)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "predictions.csv").write_bytes(b"".join(text))
        with capture_logs():
            whole = Reader(folder)
            once = as_rows(list(whole.read({})))
            pieces = Reader(folder, block_bytes=block_bytes)
            found = as_rows(list(pieces.read({})))
    assert once == found
    assert whole.skipped == pieces.skipped
    assert len(once) + whole.skipped == b"".join(text[1:]).count(b"\n")
    unharmed = [row.prediction_id for n, row in enumerate(made, start=1) if n not in hit]
    assert [row[0] for row in once if row[0] in unharmed] == unharmed


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b",")), min_size=1, max_size=20)
)
def test_any_lines_can_be_parsed(some: list[bytes]) -> None:
    lines = b"".join(line + b"\n" for line in some)
    parsed, bad = parse(lines, 2)
    assert len(bad) + (0 if parsed is None else len(parsed.ends)) == len(some)


odd = st.sampled_from(
    ["", "1", "-1.5e3", "+2", " 3", "nan", "NA", "-inf", "1e999", "0x10", "1_0", ".5", "5.", "1,5"]
)
times = st.sampled_from(
    [
        *("2026-01-02T03:04:05.123456Z", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05+01:00"),
        *("2026-01-02T03:04:05+0100", "2026-01-02T03:04+01", "2026-01-02 03:04:05", "2026-01-02"),
        *(
            "2026-01-02Z",
            "01/02/2026 03:04",
            " 2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05z",
            "now",
        ),
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(times, odd, odd, odd), min_size=2, max_size=12))
def test_a_line_is_a_row_or_none_whatever_stands_around_it(some: list[tuple[str, ...]]) -> None:
    lines = [f"id,{time},1,0,{score},{a},{b}\n".encode() for time, score, a, b in some]
    alone = [parse(line, 2)[0] is not None for line in lines]
    together, bad = parse(b"".join(lines), 2)
    ends = np.cumsum([len(line) for line in lines])
    found = [] if together is None else together.ends.tolist()
    assert found == ends[np.array(alone)].tolist()
    assert [line.offset for line in bad] == (ends - list(map(len, lines)))[
        ~np.array(alone)
    ].tolist()


@pytest.mark.parametrize(("word", "shown"), [(b"NA", "'NA'"), (b'""', "''")])
def test_many_lines_that_are_no_rows_are_found_in_one_pass(
    monkeypatch: pytest.MonkeyPatch, word: bytes, shown: str
) -> None:
    """A tool wrote a segment anew, with another word for what is missing."""
    good = Formatter(SCHEMA).lines(rows(300)).splitlines(keepends=True)
    text = [
        line.rsplit(b",", 1)[0] + b"," + word + b"\n" if n % 3 else line
        for n, line in enumerate(good)
    ]
    read_csv = mock.Mock(wraps=csv.read_csv)
    monkeypatch.setattr(csv, "read_csv", read_csv)
    found, bad = parse(b"".join(text), 3)
    assert found is not None
    assert len(found.ends) == 100
    assert {line.reason for line in bad} == {f"{shown} is no finite number"}
    assert len(bad) == 200
    assert read_csv.call_count == 4  # all; what is sound in them; as text; what is left


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2000), st.binary(max_size=30))
def test_a_crash_at_any_byte_is_recovered(cut: int, noise: bytes) -> None:
    made = rows(12)
    content = (HEADER + Formatter(SCHEMA).lines(made))[:cut] + noise.replace(b"\n", b" ")
    whole = content[: content.rfind(b"\n") + 1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "predictions.csv").write_bytes(content)

        async def recover() -> int:
            writer = await Writer.open(folder, SCHEMA, durability="os", rotate_bytes=1 << 30)
            await writer.append(SCHEMA, made[:1])
            await writer.close()
            return writer.rows

        with capture_logs():
            count = asyncio.run(recover())
        kept = b"".join(path.read_bytes() for path in folder.glob("predictions.csv*"))
        reader = Reader(folder)
        found = [row[0] for row in as_rows(list(reader.read({})))]
    before = max(0, whole.count(b"\n") - 1)
    assert count == before + 1
    assert found == ids(made[:before] + made[:1])
    assert content[len(whole) :] in kept  # what was no whole line is somewhere
