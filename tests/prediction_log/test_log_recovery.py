"""What `open` does with what a crash, or somebody, left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from prediction_rows import LARGE, OTHER, SCHEMA, closed, ids, logged, read, rows
from structlog.testing import capture_logs

from monitorkit.prediction_log import Writer, segment
from monitorkit.prediction_log.rows import Formatter, header

HEADER = header(SCHEMA.names)


async def open_log(folder: Path) -> Writer:
    return await Writer.open(folder, SCHEMA, durability="os", rotate_bytes=LARGE)


def lines(number: int) -> bytes:
    return Formatter(SCHEMA).lines(rows(number))


@pytest.mark.parametrize(
    "torn", [b"id-x,2026-01-02T03", b"\0" * 5000, b"\xff", b'id,"unfinished', b"x" * 3_000_000]
)
async def test_a_torn_last_line_is_set_aside_and_not_counted(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "predictions.csv"
    whole = HEADER + lines(3)
    path.write_bytes(whole + torn)
    with capture_logs() as events:
        writer = await open_log(tmp_path)
    assert writer.rows == 3
    assert path.read_bytes() == whole
    assert (tmp_path / "predictions.csv.torn").read_bytes() == torn + b"\n"
    assert events == [
        {
            "event": "prediction_log_torn_line",
            "log_level": "warning",
            "file": str(path),
            "offset": len(whole),
            "bytes": len(torn),
            "kept_in": str(path) + ".torn",
        }
    ]
    new = rows(1)
    await writer.append(SCHEMA, new)
    assert logged(tmp_path)[-1] == new[0].prediction_id
    await writer.close()


async def test_torn_lines_of_several_crashes_are_all_kept(tmp_path: Path) -> None:
    for torn in (b"one", b"two"):
        with (tmp_path / "predictions.csv").open("ab") as file:
            file.write((b"" if file.tell() else HEADER) + torn)
        writer = await open_log(tmp_path)
        await writer.close()
    assert (tmp_path / "predictions.csv.torn").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("left", [b"", HEADER[:7], HEADER[:-1]])
async def test_a_crash_before_the_header_was_whole(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "predictions.csv").write_bytes(left)
    writer = await open_log(tmp_path)
    assert (tmp_path / "predictions.csv").read_bytes() == HEADER
    await writer.append(SCHEMA, rows(1))
    assert writer.rows == 1
    await writer.close()


@pytest.mark.parametrize(
    "content",
    [
        b"a,b,c\n1,2,3\n",
        b"\0\0\0\n",
        b"no newline at all",
        b"\xff\xfe\n",
        b'"\n',
        b"\n",
        HEADER[9:],
    ],
)
async def test_a_file_that_is_no_log_is_kept_under_another_name(
    tmp_path: Path, content: bytes
) -> None:
    for number in (1, 2):
        (tmp_path / "predictions.csv").write_bytes(content)
        with capture_logs() as events:
            writer = await open_log(tmp_path)
        await writer.close()
        aside = tmp_path / f"predictions.csv.unknown-{number}"
        assert aside.read_bytes() == content
        assert [(e["event"], e["kept_in"]) for e in events] == [
            ("prediction_log_header_unknown", str(aside))
        ]
        assert (tmp_path / "predictions.csv").read_bytes() == HEADER


async def test_a_segment_of_another_schema_is_closed_at_the_start(tmp_path: Path) -> None:
    old = rows(2, schema=OTHER)
    content = header(OTHER.names) + Formatter(OTHER).lines(old)
    (tmp_path / "predictions.csv").write_bytes(content)
    writer = await open_log(tmp_path)
    (old_segment,) = closed(tmp_path)
    assert old_segment.read_bytes() == content
    assert (tmp_path / "predictions.csv").read_bytes() == HEADER
    assert writer.rows == 2
    await writer.close()


async def test_lines_that_end_in_crlf_are_rows(tmp_path: Path) -> None:
    old = rows(2)
    content = (HEADER + Formatter(SCHEMA).lines(old)).replace(b"\n", b"\r\n")
    (tmp_path / "predictions.csv").write_bytes(content)
    writer = await open_log(tmp_path)
    assert writer.rows == 2
    new = rows(1)
    await writer.append(SCHEMA, new)
    assert read(tmp_path)[0] == ids(old + new)
    await writer.close()


async def test_a_segment_cut_while_nobody_wrote_is_closed_and_never_grows_over_a_cursor(
    tmp_path: Path,
) -> None:
    writer = await open_log(tmp_path)
    old = rows(10)
    await writer.append(SCHEMA, old)
    await writer.close()
    _, cursor = read(tmp_path)
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    writer = await open_log(tmp_path)
    new = rows(20)  # beyond the old size, if they came into the same file
    await writer.append(SCHEMA, new)
    assert read(tmp_path, cursor)[0] == ids(new)
    assert read(tmp_path)[0] == ids(old[:4] + new)
    assert writer.rows == 24
    await writer.close()


@pytest.mark.parametrize("size", [1, 100, segment.HEAD_BYTES, 3_000_000])
async def test_counting_gives_the_number_of_whole_lines(tmp_path: Path, size: int) -> None:
    path = tmp_path / "predictions.csv"
    body = lines(max(1, size // 60))
    path.write_bytes(HEADER + body + b"torn")
    with path.open("rb") as file:
        found = segment.count(file.fileno(), len(HEADER))
    last = body.splitlines()[-1].split(b",")[1].decode()
    assert found == segment.Count(body.count(b"\n"), len(HEADER) + len(body), last)
