"""CSV in any shape: what Python's csv module reads, in any blocks, line numbers included."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitorkit.errors import DataError
from monitorkit.importing.batch import Reject
from monitorkit.importing.records import CsvFile
from monitorkit.importing.source import open_source

Found = list[tuple[int, tuple[str, ...], bytes]]


def read(content: bytes, block_bytes: int) -> tuple[Found, list[Reject]]:
    rows: Found = []
    bad: list[Reject] = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file.csv"
        path.write_bytes(content)
        file = CsvFile(path, block_bytes=block_bytes)
        for batch in file.batches():
            cells = zip(*(batch.columns[c].to_pylist() for c in file.columns), strict=True)
            rows += zip(batch.lines, cells, batch.raws(), strict=True)
            bad += batch.bad
        file.close()
    return rows, bad


plain = st.text(st.characters(codec="utf-8", exclude_characters='"\r\n\0,'), max_size=6)
anything = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)
tables = st.lists(st.tuples(anything | plain, plain, anything), max_size=12)


@settings(max_examples=150, deadline=None)
@given(tables, st.integers(1, 60), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example([("", "", ""), ("\n", "", '"')], 1, "\n", True)
def test_what_the_csv_module_writes_is_read(
    table: list[tuple[str, str, str]], block_bytes: int, end: str, ended: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerows([("a", "b", "c"), *table])
    content = text.getvalue() if ended else text.getvalue().removesuffix(end)
    rows, bad = read(content.encode(), block_bytes)
    assert not bad
    assert [cells for _, cells, _ in rows] == table
    whole = content.encode().split(b"\n")
    for line, _, raw in rows:  # it begins on the line that is named
        assert whole[line - 1].startswith(raw.split(b"\n")[0].removesuffix(b"\r"))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"1,2", b"1,2,3", b"", b'"', b'"x', b'y",2', b"\xff,1", b"\r", b" "])
    ),
    st.integers(1, 20),
)
def test_any_lines_in_any_blocks_are_the_same_records(lines: list[bytes], block: int) -> None:
    content = b"a,b\n" + b"\n".join(lines)
    rows, bad = read(content, block)
    assert (rows, bad) == read(content, 1 << 20)
    seen = sorted([line for line, _, _ in rows] + [reject.line for reject in bad])
    assert len(set(seen)) == len(seen)


@given(st.lists(st.tuples(plain, plain), min_size=1))
@settings(max_examples=100, deadline=None)
def test_the_fast_way_and_the_slow_way_agree(table: list[tuple[str, str]]) -> None:
    lines = ["a,b", *(",".join(row) for row in table)]
    fast, fast_bad = read("\n".join(lines).encode(), 1 << 20)
    slow, slow_bad = read("\n".join([*lines, '"x",y']).encode(), 1 << 20)
    assert (fast, fast_bad) == (slow[:-1], slow_bad)


def test_a_quotation_mark_that_is_not_closed_costs_one_line() -> None:
    rows, bad = read(b'a,b\n1,2\n"3,4\n5,6\n"7",8\n9,"10"\n', 5)
    assert [(line, cells) for line, cells, _ in rows] == [
        (2, ("1", "2")),
        (4, ("5", "6")),
        (5, ("7", "8")),
        (6, ("9", "10")),
    ]
    assert [(reject.line, reject.raw) for reject in bad] == [(3, b'"3,4')]


def test_a_quotation_mark_that_is_not_closed_is_not_looked_for_in_each_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[int] = []
    plainly = CsvFile._cells

    def counted(self: CsvFile, record: bytes) -> list[str] | str:
        looked_at.append(len(record))
        return plainly(self, record)

    monkeypatch.setattr(CsvFile, "_cells", counted)
    content = b'a,b,c\n1,"oops,3\n' + b'7,"",9\n' * 2000
    rows, bad = read(content, 1 << 20)
    assert [reject.line for reject in bad] == [2]
    assert len(rows) == 2000
    assert sum(looked_at) < 3 * len(content)


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
def test_line_numbers_count_blank_lines_and_those_inside_of_cells(block_bytes: int) -> None:
    rows, bad = read(b'\na,b\n\n1,"x\n\ny"\n\n2,z\nbad\n', block_bytes)
    assert [(line, cells) for line, cells, _ in rows] == [(4, ("1", "x\n\ny")), (8, ("2", "z"))]
    assert [reject.line for reject in bad] == [9]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
def test_a_pipe_is_refused_with_what_to_do(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both_ends = os.open(pipe, os.O_RDWR)
    os.write(both_ends, b"a,b\n1,2\n")
    with pytest.raises(DataError, match=r"it is a pipe.*Write it to a file first"):
        open_source(pipe)
    os.close(both_ends)
