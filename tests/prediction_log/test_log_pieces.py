"""A reading in pieces gives what a reading at once gives, wherever the pieces begin and end."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_rows import LARGE, SCHEMA, as_rows, ids, read, rows
from structlog.testing import capture_logs

from monitorkit.errors import SegmentGone
from monitorkit.prediction_log import Block, Reader, Writer, lines, parsing, segment
from monitorkit.prediction_log.rows import Formatter, header

HEADER = header(SCHEMA.names)
CLOSED = "predictions-20260101T000000.000000Z.csv"


@contextmanager
def lines_of_at_most(limit: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "LINE_LIMIT", limit)
        patch.setattr(parsing, "LINE_LIMIT", limit)
        yield


def row(version: str) -> bytes:
    return Formatter(SCHEMA).lines(rows(1, version=version))


def last_cursor(blocks: Sequence[Block], after: Mapping[str, int]) -> Mapping[str, int]:
    return blocks[-1].cursor if blocks else after


a_row = st.sampled_from("1123").map(row)
a_long_row = st.integers(100, 700).map(lambda length: row("v" * length))
junk = st.binary(max_size=20).map(lambda noise: noise.replace(b"\n", b",") + b"\n")
much_junk = st.integers(150, 900).map(lambda length: b"x" * length + b"\n")
a_segment = st.tuples(
    st.lists(a_row | a_row | junk | a_long_row | much_junk, max_size=12),
    st.sampled_from([b"", b"", b"no end", b"no end" * 60]),
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(a_segment, min_size=1, max_size=4),
    st.integers(1, 900),
    st.sampled_from([1, 70, 150, 10_000]),
    st.integers(0, 6),
    st.booleans(),
)
def test_all_pieces_give_the_rows_of_one_reading_and_its_cursor(
    segments: list[tuple[list[bytes], bytes]],
    piece_bytes: int,
    block_bytes: int,
    blocks_before: int,
    stop: bool,
) -> None:
    with tempfile.TemporaryDirectory() as name, capture_logs(), lines_of_at_most(300):
        folder = Path(name)
        for number, (text, end) in enumerate(segments):
            live = number == len(segments) - 1
            file = "predictions.csv" if live else f"predictions-2026010{number}T000000.000000Z.csv"
            # A row of its own gives each segment an identity.
            (folder / file).write_bytes(b"".join([HEADER, row("0"), *text, end]))
        everything = list(Reader(folder, block_bytes=block_bytes).read({}))
        some = everything[:blocks_before]
        after = last_cursor(some, {})
        until = everything[-1].cursor if stop and everything else None
        reader = Reader(folder, block_bytes=block_bytes)
        expected = list(reader.read(after, until=until))
        in_pieces = Reader(folder, block_bytes=block_bytes)
        plan = in_pieces.plan(after, until=until, piece_bytes=piece_bytes)
        assert all(piece.end - piece.start <= piece_bytes for piece in plan.pieces)
        blocks = [block for piece in plan.pieces for block in in_pieces.read_piece(piece)]
    assert as_rows(blocks) == as_rows(expected)
    assert plan.cursor == last_cursor(expected, after)
    assert in_pieces.skipped == reader.skipped


def test_a_line_longer_than_the_limit_is_no_row_however_it_is_read(tmp_path: Path) -> None:
    before, after = rows(2), rows(2)
    text = Formatter(SCHEMA).lines(before), Formatter(SCHEMA).lines(after)
    longest, too_long = (
        b"id,2026-01-02T03:04:05.123456Z,v,0,0.5,1,2,3\n".replace(b"v", b"v" * (length - 44))
        for length in (segment.LINE_LIMIT, segment.LINE_LIMIT + 1)
    )
    assert len(longest) == segment.LINE_LIMIT
    content = b"".join([HEADER, text[0], longest, too_long, text[1]])
    (tmp_path / "predictions.csv").write_bytes(content)
    for block_bytes in (1_000, 100_000, 8 * segment.LINE_LIMIT):
        reader = Reader(tmp_path, block_bytes=block_bytes)
        with capture_logs() as events:
            found = [id_ for block in reader.read({}) for id_ in block.chunk.ids.tolist()]
            plan = reader.plan({}, piece_bytes=300_000)
            again = [
                id_
                for piece in plan.pieces
                for block in reader.read_piece(piece)
                for id_ in block.chunk.ids.tolist()
            ]
        assert len(found) == 5
        assert (found[:2], found[3:]) == (ids(before), ids(after))
        assert again == found
        reasons = [(event["offset"], event["reason"]) for event in events]
        offset = len(HEADER + text[0]) + segment.LINE_LIMIT
        assert reasons == [(offset, segment.TOO_LONG)] * 2


async def test_a_piece_is_found_again_after_its_segment_was_closed(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1_000)
    old = rows(10)
    await writer.append(SCHEMA, old)
    expected, cursor = read(tmp_path)
    plan = Reader(tmp_path).plan({}, piece_bytes=100)
    await writer.append(SCHEMA, rows(10))  # closes the segment
    assert not (tmp_path / "predictions.csv").read_bytes().count(old[0].prediction_id.encode())
    assert plan.cursor == cursor
    pieces = pickle.loads(pickle.dumps(plan.pieces))  # noqa: S301 - as another process gets them
    assert pieces == plan.pieces
    found = {
        piece: [id_ for b in Reader(tmp_path).read_piece(piece) for id_ in b.chunk.ids.tolist()]
        for piece in reversed(pieces)
    }
    assert [id_ for piece in pieces for id_ in found[piece]] == expected == ids(old)
    await writer.close()


def test_what_is_written_after_the_plan_is_not_in_it(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    old = rows(5)
    path.write_bytes(HEADER + Formatter(SCHEMA).lines(old))
    plan = Reader(tmp_path).plan({}, piece_bytes=LARGE)
    with path.open("ab") as file:
        file.write(Formatter(SCHEMA).lines(rows(5)))
    (piece,) = plan.pieces
    (block,) = Reader(tmp_path).read_piece(piece)
    assert block.chunk.ids.tolist() == ids(old)
    assert block.cursor == plan.cursor


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_segment_that_lost_rows_since_the_plan_is_an_error(tmp_path: Path, how: str) -> None:
    path = tmp_path / CLOSED
    path.write_bytes(HEADER + Formatter(SCHEMA).lines(rows(5)))
    (piece,) = Reader(tmp_path).plan({}, piece_bytes=LARGE).pieces
    if how == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(SegmentGone, match=CLOSED):
        list(Reader(tmp_path).read_piece(piece))


def test_a_plan_reads_the_ends_of_segments_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"".join(row("1") for _ in range(20_000))
    (tmp_path / CLOSED).write_bytes(HEADER + text)
    (tmp_path / "predictions.csv").write_bytes(HEADER + text.replace(b"-7000-", b"-7001-"))
    taken = 0
    real = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal taken
        data = real(fd, size, offset)
        taken += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    plan = Reader(tmp_path).plan({}, piece_bytes=100_000)
    assert len(plan.pieces) > 20
    assert taken < 10 * segment.HEAD_BYTES
