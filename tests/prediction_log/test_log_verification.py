"""verify-log's work: an untouched log is sound, and any edit of a closed segment is found."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prediction_rows import OTHER, SCHEMA, START, closed, rows, stamp

from monitorkit.errors import ArchiveUnreachable
from monitorkit.prediction_log import (
    Prediction,
    Reader,
    Writer,
    chain,
    chain_history,
    names,
    verification,
)
from monitorkit.prediction_log.compression import Compression
from monitorkit.prediction_log.imported import ImportedSegments
from monitorkit.prediction_log.repeats import Repeats
from monitorkit.prediction_log.rows import Formatter
from monitorkit.prediction_log.verification import verify
from monitorkit.prediction_log.verified import Finding, Report, Verified

WRITE = str(Path(__file__).parent / "prediction_writer.py")


async def write(
    folder: Path,
    batches: Sequence[Sequence[Prediction]],
    *,
    rotate: int = 1,
    instance: str = "",
    sync: bool = False,
) -> None:
    """Write batches; with `rotate=1` each closes the segment of the one before it."""
    writer = await Writer.open(
        folder,
        SCHEMA,
        durability="fsync" if sync else "os",
        rotate_bytes=rotate,
        instance=instance,
    )
    for batch in batches:
        await writer.append(SCHEMA, batch)
    await writer.close()


def states(report: Report) -> list[str]:
    return [each.state for each in report.segments]


def size_of(segment: Verified) -> int:
    return Path(segment.file).stat().st_size


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def compress(folder: Path) -> None:
    cursor = list(Reader(folder).read({}))[-1].cursor
    while Compression(folder).work(cursor, seconds=60):
        pass


async def test_an_untouched_log_is_sound_and_counted(tmp_path: Path) -> None:
    await write(tmp_path, [rows(2), rows(3), rows(4)])
    report = verify(tmp_path)
    assert report.findings == []
    assert [(each.rows, each.state) for each in report.segments] == [
        (2, "sealed"),
        (3, "sealed"),
        (4, "open"),
    ]
    assert report.rows == 9
    assert [each.bytes for each in report.segments] == list(map(size_of, report.segments))
    (head,) = report.chains
    assert head.lines == 2
    last = json.loads((tmp_path / "predictions.chain").read_bytes().splitlines()[-1])
    assert head.sha256 == last["sha256"]
    assert last["record"]["schema_version"] == 1


async def test_a_chain_links_its_lines_and_says_what_a_segment_held(tmp_path: Path) -> None:
    await write(tmp_path, [rows(2), rows(3), rows(4)])
    first, second = chain.read(tmp_path / "predictions.chain")
    assert first.record is not None
    assert second.record is not None
    assert (first.record.previous, second.record.previous) == (chain.FIRST, first.sha256)
    path = tmp_path / first.record.segment
    assert (first.record.rows, first.record.bytes) == (2, path.stat().st_size)
    assert first.record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_empty_folder_and_none_are_sound(tmp_path: Path) -> None:
    assert verify(tmp_path) == Report()
    assert verify(tmp_path / "none") == Report()


# Edits, each of which is one that hypothesis chooses

Edit = Callable[[list[bytes], int, int], list[bytes]]


def change_a_byte(lines: list[bytes], place: int, value: int) -> list[bytes]:
    content = bytearray(b"".join(lines))
    at = place % len(content)
    content[at] = (content[at] + 1 + value % 255) % 256
    return [bytes(content)]


def delete_a_row(lines: list[bytes], place: int, _: int) -> list[bytes]:
    at = place % (len(lines) - 1) + 1
    return lines[:at] + lines[at + 1 :]


def repeat_a_row(lines: list[bytes], place: int, other: int) -> list[bytes]:
    at = place % (len(lines) - 1) + 1
    return [*lines[:at], lines[other % (len(lines) - 1) + 1], *lines[at:]]


def insert_a_row(lines: list[bytes], place: int, other: int) -> list[bytes]:
    (line,) = (
        Formatter(SCHEMA)
        .lines([Prediction(f"new-{other}", stamp(START), "1", 0, 0.5, [1, 2, 3])])
        .splitlines(keepends=True)
    )
    at = place % len(lines) + 1
    return [*lines[:at], line, *lines[at:]]


def swap_two_rows(lines: list[bytes], place: int, other: int) -> list[bytes]:
    one, two = place % (len(lines) - 1) + 1, other % (len(lines) - 1) + 1
    if one == two:
        two = two % (len(lines) - 1) + 1
    lines = list(lines)
    lines[one], lines[two] = lines[two], lines[one]
    return lines


def truncate(lines: list[bytes], place: int, _: int) -> list[bytes]:
    content = b"".join(lines)
    return [content[: place % len(content)]]


def append_bytes(lines: list[bytes], place: int, _: int) -> list[bytes]:
    return [*lines, b"\n" * (place % 3 + 1)]


EDITS: list[Edit] = [
    change_a_byte,
    delete_a_row,
    repeat_a_row,
    insert_a_row,
    swap_two_rows,
    truncate,
    append_bytes,
]
numbers = st.integers(0, 1 << 20)
small = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@small
@given(batches=st.lists(st.integers(1, 6), min_size=1, max_size=6), rotate=st.integers(1, 900))
def test_an_untouched_log_of_any_split_is_sound(batches: list[int], rotate: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        asyncio.run(write(folder, [rows(number) for number in batches], rotate=rotate))
        report = verify(folder)
        assert report.findings == []
        assert report.rows == sum(batches)
        assert states(report)[-1] == "open"
        assert set(states(report)[:-1]) <= {"sealed"}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@settings(parent=small, max_examples=25)
@given(which=numbers, place=numbers, other=numbers)
def test_any_edit_of_a_closed_segment_is_found(
    edit: Edit, which: int, place: int, other: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("edited")
    asyncio.run(write(folder, [rows(3), rows(4), rows(5), rows(1)]))
    path = closed(folder)[which % 3]
    before = path.read_bytes()
    after = b"".join(edit(before.splitlines(keepends=True), place, other))
    assert after != before
    path.write_bytes(after)
    report = verify(folder)
    assert str(path) in {finding.file for finding in report.findings}
    assert "changed" in states(report)
    assert all(finding.remedy for finding in report.findings)
    path.write_bytes(before)
    assert verify(folder).findings == []


@settings(parent=small, max_examples=40)
@given(which=numbers, place=numbers, value=numbers)
def test_any_changed_byte_of_a_compressed_segment_is_found(
    which: int, place: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("compressed")
    asyncio.run(write(folder, [rows(3), rows(4), rows(1)]))
    compress(folder)
    report = verify(folder)
    assert (report.findings, report.rows) == ([], 8)
    assert [Path(each.file).suffix for each in report.segments] == [".parquet", ".parquet", ".csv"]
    path = sorted(folder.glob("*.parquet"))[which % 2]
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 + value % 255
    path.write_bytes(content)
    report = verify(folder)
    assert str(path) in {finding.file for finding in report.findings}


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_deleted_segment_is_found(tmp_path: Path, which: int) -> None:
    await write(tmp_path, [rows(3), rows(4), rows(5), rows(1)])
    path = closed(tmp_path)[which]
    path.unlink()
    path.with_suffix(".json").unlink()
    finding = only(verify(tmp_path))
    assert finding.file == str(path)
    assert f"{3 + which} rows was removed" in finding.problem


@pytest.mark.parametrize("name", ["predictions-20270101T000000.000000Z.csv", "mine.csv"])
async def test_a_renamed_segment_is_found(tmp_path: Path, name: str) -> None:
    await write(tmp_path, [rows(3), rows(4), rows(5)])
    path = closed(tmp_path)[0]
    path.rename(tmp_path / name)
    finding = only(verify(tmp_path))
    assert finding.file == str(path)
    assert ("removed" if name == "mine.csv" else f"renamed to {name}") in finding.problem


async def test_a_closed_segment_that_was_opened_again_is_found(tmp_path: Path) -> None:
    await write(tmp_path, [rows(3), rows(4), rows(5)])
    older, newer = closed(tmp_path)
    older.rename(tmp_path / "predictions-b.csv")
    assert only(verify(tmp_path)).file == str(older)
    (tmp_path / "predictions-b.csv").rename(older)
    newer.write_bytes(newer.read_bytes().replace(b",1,", b",2,", 1))
    newer.replace(tmp_path / "predictions.csv")
    assert only(verify(tmp_path)).file == str(newer)


async def test_a_segment_that_was_put_there_is_found_until_it_is_taken_in(tmp_path: Path) -> None:
    await write(tmp_path / "other", [rows(3), rows(2)])
    await write(tmp_path / "log", [rows(3), rows(4)])
    added = shutil.copy(closed(tmp_path / "other")[0], tmp_path / "log")
    report = verify(tmp_path / "log")
    assert only(report).file == str(added)
    assert "--seal" in only(report).remedy
    assert sorted(states(report)) == ["open", "sealed", "unsealed"]
    assert verification.seal(tmp_path / "log") == [str(added)]
    assert verification.seal(tmp_path / "log") == []
    assert verify(tmp_path / "log").findings == []
    *_, last = chain.read(tmp_path / "log" / "predictions.chain")
    assert last.record is not None
    assert last.record.origin == "found"


async def test_sealing_never_takes_in_what_was_edited(tmp_path: Path) -> None:
    await write(tmp_path, [rows(3), rows(4)])
    (path,) = closed(tmp_path)
    path.write_bytes(path.read_bytes() + b"x\n")
    assert verification.seal(tmp_path) == []
    assert "added" in verify(tmp_path).findings[0].problem


async def forged(tmp_path: Path) -> tuple[Path, Path, str]:
    """A log, a Parquet file with one row less than its first closed segment, and its CSV name."""
    log, forge = tmp_path / "log", tmp_path / "forge"
    await write(log, [rows(3), rows(4), rows(1)])
    path = closed(log)[0]
    forge.mkdir()
    lines = path.read_bytes().splitlines(keepends=True)
    (forge / path.name).write_bytes(b"".join(lines[:-1]))
    compress(forge)
    path.unlink()
    path.with_suffix(".json").unlink()
    return log, forge / path.with_suffix(".parquet").name, path.name


async def test_a_form_that_nobody_saw_being_made_is_found_and_not_taken_in(tmp_path: Path) -> None:
    log, made, _ = await forged(tmp_path)
    added = Path(shutil.copy(made, log))
    for _ in range(2):
        finding = only(verify(log))
        assert (finding.file, finding.problem) == (
            str(added), "no chain speaks of this form of it",
        )  # fmt: skip
        assert "--seal" not in finding.remedy
        assert verification.seal(log) == []


async def test_so_is_one_in_an_archive(tmp_path: Path) -> None:
    log, made, _ = await forged(tmp_path)
    (archive := tmp_path / "archive").mkdir()
    added = Path(shutil.copy(made, archive))
    report = verify(log, [str(archive)])
    assert (only(report).file, only(report).problem) == (
        str(added), "no chain speaks of this form of it",
    )  # fmt: skip
    assert "unsealed" in states(report)


@pytest.mark.parametrize("edit", ["fewer rows", "other values", "more rows"])
async def test_a_further_line_of_a_chain_hides_no_edit(tmp_path: Path, edit: str) -> None:
    """A head that somebody noted still stands then, for the lines before it are as they were."""
    await write(tmp_path, [rows(3), rows(4)])
    (path,) = closed(tmp_path)
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    after = {
        "fewer rows": b"".join(lines[:-1]),
        "other values": before.replace(b",0.", b",1.", 1),
        "more rows": b"".join([*lines[:-2], lines[-1], lines[-2], lines[-1]]),
    }[edit]
    assert after != before
    path.write_bytes(after)
    chain.append(
        tmp_path / "predictions.chain",
        "closed",
        segment=path.name,
        rows=after.count(b"\n") - 1,
        bytes=len(after),
        sha256=hashlib.sha256(after).hexdigest(),
    )
    problems = [finding.problem.partition(":")[0] for finding in verify(tmp_path).findings]
    assert "it was edited, and its chain has another line since" in problems
    # More of them are what an interrupted closing leaves; then the rows alone can tell.
    said = f"it says otherwise of {path.name} than an earlier line"
    assert (said in problems) == (edit != "more rows")


async def test_a_chain_speaks_of_its_own_writers_segments_alone(tmp_path: Path) -> None:
    await write(tmp_path, [rows(3), rows(4)])
    (path,) = closed(tmp_path)
    path.write_bytes(edited := path.read_bytes().replace(b",0.", b",1.", 1))
    other = tmp_path / "predictions-zz.chain"
    chain.append(
        other,
        "closed",
        segment=path.name,
        rows=3,
        bytes=len(edited),
        sha256=hashlib.sha256(edited).hexdigest(),
    )
    first, second = verify(tmp_path).findings
    assert (first.file, first.line) == (str(other), 1)
    assert "no segment of this chain's writer" in first.problem
    assert (second.file, "edited" in second.problem) == (str(path), True)


async def test_the_copy_that_is_read_is_verified(tmp_path: Path) -> None:
    """Of archives that have the same segment the longest: a copy may be of one that grew."""
    log, first, second = tmp_path / "log", tmp_path / "first", tmp_path / "second"
    await write(log, [rows(3), rows(1)])
    (path,) = closed(log)
    text = path.read_bytes()
    for archive, more in ((first, b""), (second, text.splitlines(keepends=True)[-1])):
        archive.mkdir()
        (archive / path.name).write_bytes(text + more)
    path.unlink()
    path.with_suffix(".json").unlink()
    archives = [str(first), str(second)]
    read = sum(len(block.chunk) for block in Reader(log, archives).read({}))
    report = verify(log, archives)
    assert report.rows == read == 5
    assert {finding.file for finding in report.findings} == {str(second / path.name)}
    assert verify(log, archives[:1]).findings == []


async def test_of_very_many_ids_that_come_twice_some_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that was restored beside itself has each row twice, and no memory for all of them."""
    monkeypatch.setattr(verification, "IDS", 5)
    await write(tmp_path, [rows(40), rows(1)])
    (path,) = closed(tmp_path)
    shutil.copy(path, path.with_name(path.stem + "-7.csv"))
    problems = [finding.problem for finding in verify(tmp_path).findings]
    assert sum("stands in" in problem for problem in problems) == 5


async def test_an_id_that_comes_twice_is_found_in_open_segments_too(tmp_path: Path) -> None:
    batch = rows(3)
    await write(tmp_path, [batch, rows(2), [batch[1]]])
    finding = only(verify(tmp_path))
    assert finding.file.endswith("predictions.csv")
    assert finding.line == 2
    assert f"prediction_id {batch[1].prediction_id} stands in {closed(tmp_path)[0]}, line 3" in (
        finding.problem
    )


def test_repeats_are_the_same_in_memory_and_in_files() -> None:
    random = np.random.default_rng(1)
    some = random.integers(-(1 << 63), (1 << 63) - 1, 5000)
    every = np.concatenate([some, some[:7], some[2:4], [np.iinfo(np.int64).min] * 2])
    for in_memory in (1 << 20, 1000):
        with Repeats(in_memory=in_memory) as repeats:
            for part in np.array_split(every, 13):
                repeats.add(part)
            assert sorted(repeats.found()) == sorted({*some[:7], np.iinfo(np.int64).min})


async def test_lines_that_are_no_rows_are_told_of_by_their_line(tmp_path: Path) -> None:
    await write(tmp_path, [rows(3)], rotate=1 << 20)
    path = tmp_path / "predictions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"junk\n", *lines[2:], b"half a ro"]))
    report = verify(tmp_path)
    (segment,) = report.segments
    assert (segment.rows, segment.bad, segment.torn, segment.state) == (3, 1, 1, "open")
    assert (only(report).line, only(report).file) == (3, str(path))
    await write(tmp_path, [rows(1)], rotate=1 << 20)  # the next start sets the half line aside
    assert verify(tmp_path).set_aside == {f"{path}.torn": 1}


async def test_rows_that_go_back_in_time_are_counted(tmp_path: Path) -> None:
    late, early = rows(2), rows(2, start=START.replace(year=2025))
    beside = rows(2, start=START.replace(year=2025) - timedelta(milliseconds=100))
    await write(tmp_path, [[*late, *early, *beside]], rotate=1 << 20)
    report = verify(tmp_path)
    assert report.findings == []
    assert report.segments[0].backwards == 1


# Chains

CHAIN_EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a line is removed": lambda lines: [lines[0], *lines[2:]],
    "the first line is removed": lambda lines: lines[1:],
    "two lines are swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "a line comes twice": lambda lines: [*lines[:2], *lines[1:]],
    "rows are edited": lambda lines: [*lines[:-1], lines[-1].replace(b'"rows":5', b'"rows":4')],
    "a line is no line": lambda lines: [*lines[:-1], b"{}\n"],
    "the last line is removed": lambda lines: lines[:-1],
    "all is removed": lambda _: [],
}


@pytest.mark.parametrize("edit", CHAIN_EDITS.values(), ids=CHAIN_EDITS)
async def test_an_edited_chain_is_found(
    tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]]
) -> None:
    await write(tmp_path, [rows(3), rows(4), rows(5), rows(1)])
    path = tmp_path / "predictions.chain"
    lines = path.read_bytes().splitlines(keepends=True)
    changed = edit(lines)
    assert changed != lines
    path.write_bytes(b"".join(changed))
    assert verify(tmp_path).findings


async def test_the_next_writer_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    await write(tmp_path, [rows(3), rows(4)])
    path = tmp_path / "predictions.chain"
    path.write_bytes(path.read_bytes() + b'{"sha256":"00')
    assert verify(tmp_path).findings == []
    await write(tmp_path, [rows(1), rows(1)])
    assert verify(tmp_path).findings == []
    assert len(list(chain.read(path))) == 3


async def test_a_line_longer_than_a_block_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.chain"
    for reason in ("x" * 300_000, "y" * 300_000, None):
        chain.append(path, "pruned", segment="a.csv", rows=1, bytes=2, sha256=None, reason=reason)
    links = list(chain.read(path))
    assert [link.problem for link in links] == [None] * 3


async def test_instances_and_imports_have_chains_of_their_own(tmp_path: Path) -> None:
    await write(tmp_path, [rows(1), rows(2)], instance="a")
    await write(tmp_path, [rows(1), rows(2)], instance="b", sync=True)
    with ImportedSegments(tmp_path, 100) as segments:
        for batch in (rows(3), rows(4)):
            lines = [Formatter(SCHEMA).lines([row]) for row in batch]
            segments.add(SCHEMA.names, lines, [row.timestamp for row in batch])
        segments.publish()
    report = verify(tmp_path)
    assert report.findings == []
    assert [Path(head.file).name for head in report.chains] == [
        "predictions-a.chain",
        "predictions-b.chain",
        "predictions-import.chain",
    ]
    assert [head.lines for head in report.chains] == [1, 1, 2]
    imported = next(path for path in closed(tmp_path) if "import" in path.name)
    imported.write_bytes(imported.read_bytes().replace(b",0.", b",0.9", 1))
    assert verify(tmp_path).findings[0].file == str(imported)


def import_rows(folder: Path, batch: Sequence[Prediction]) -> None:
    with ImportedSegments(folder, 10**9) as segments:
        lines = Formatter(SCHEMA).lines(batch).splitlines(keepends=True)
        segments.add(SCHEMA.names, lines, [row.timestamp for row in batch])
        segments.publish()


def test_imported_ids_may_name_a_customer_and_count_with_their_time(tmp_path: Path) -> None:
    batch = [row._replace(prediction_id="customer-7") for row in rows(4)]
    import_rows(tmp_path, batch)
    assert verify(tmp_path).findings == []
    import_rows(tmp_path, batch[:1])
    (finding,) = verify(tmp_path).findings
    assert finding.problem.startswith(f"prediction_id customer-7 at {batch[0].timestamp[:-1]} ")


@pytest.mark.parametrize("other", ["import", "b"])
async def test_a_killed_closing_is_sound_whatever_others_close_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Names of the writer without an instance begin those of all the others."""
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1)
    await writer.append(SCHEMA, rows(2))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", _refuse)
        await writer.append(SCHEMA, rows(1))
    if other == "import":
        import_rows(tmp_path, rows(3))
    else:
        await write(tmp_path, [rows(2), rows(1)], instance=other)
    assert verify(tmp_path).findings == []
    await writer.close()


def test_a_segment_that_is_pruned_meanwhile_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = rows(4)
    import_rows(tmp_path, batch)
    (path,) = closed(tmp_path)
    known = chain_history.read_chains

    def then_pruned(folder: Path) -> Any:
        found = known(folder)
        if path.exists():
            prune(path)
        return found

    monkeypatch.setattr(chain_history, "read_chains", then_pruned)
    report = verify(tmp_path)
    assert (report.findings, report.pruned, report.pruned_rows) == ([], 1, 4)
    # What is imported again, and then removed by hand, is missing, whatever was pruned before.
    monkeypatch.undo()
    import_rows(tmp_path, batch)
    assert closed(tmp_path) == [path]
    assert list(chain.last_of(tmp_path / "predictions-import.chain", path.stem)) == ["closed"]
    path.unlink()
    assert "of 4 rows was removed" in only(verify(tmp_path)).problem


async def test_a_segment_that_gets_its_name_and_is_compressed_meanwhile_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(tmp_path, [rows(4), rows(1)])
    (path,) = closed(tmp_path)
    listing = names.segments

    def then_compressed(folder: Path) -> list[names.Name]:
        monkeypatch.undo()
        aside = path.rename(tmp_path / "aside")  # the chain speaks of it, and it has no name yet
        found = listing(folder)
        aside.rename(path)
        compress(folder)
        return found

    monkeypatch.setattr(names, "segments", then_compressed)
    report = verify(tmp_path)
    assert (report.findings, states(report)) == ([], ["open", "sealed"])
    assert not path.exists()


def prune(path: Path) -> None:
    """As retention does it: its line, then the file."""
    where = path.with_name("predictions-import.chain")
    record = chain.last_of(where, path.stem)["closed"]
    told: dict[str, Any] = {"segment": record.segment, "rows": record.rows, "bytes": record.bytes}
    chain.append(where, "pruned", **told, sha256=None, identity=record.identity, reason="old")
    path.unlink()


async def test_a_change_of_columns_closes_a_sealed_segment(tmp_path: Path) -> None:
    await write(tmp_path, [rows(2)], rotate=1 << 20)
    writer = await Writer.open(tmp_path, OTHER, durability="os", rotate_bytes=1 << 20)
    await writer.append(OTHER, rows(1, schema=OTHER))
    await writer.close()
    report = verify(tmp_path)
    assert (report.findings, states(report)) == ([], ["sealed", "open"])


async def test_rows_edited_in_the_open_segment_are_found_once_it_is_closed(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=400)
    await writer.append(SCHEMA, rows(2))
    path = tmp_path / "predictions.csv"
    with path.open("r+b") as file:
        content = file.read()
        at = content.index(b"-7000-", content.index(b"\n"))
        os.pwrite(file.fileno(), b"-7001-", at)
    assert verify(tmp_path).findings == []  # only its form can be checked
    for _ in range(3):
        await writer.append(SCHEMA, rows(2))
    await writer.close()
    assert only(verify(tmp_path)).file == str(closed(tmp_path)[0])


async def test_a_change_is_told_by_the_stretch_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitorkit.prediction_log.digest.MARK_BYTES", 10_000)
    monkeypatch.setattr("monitorkit.prediction_log.digest.BLOCK_BYTES", 4_000)
    await write(tmp_path, [rows(50) for _ in range(20)], rotate=1 << 20)
    await write(tmp_path, [rows(1)])  # after a restart, which hashes what is there
    (path,) = closed(tmp_path)
    content = path.read_bytes()
    at = content.rindex(b"\n", 0, len(content) // 2) - 1
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"x", at)
    problem = verify(tmp_path).findings[0].problem
    found = re.search(r"between line (\d+) and line (\d+)", problem)
    assert found is not None
    first, last = int(found[1]), int(found[2])
    assert 2 < first <= content[:at].count(b"\n") + 1 <= last
    assert last - first < 300


# Faults


async def test_a_start_after_a_kill_finds_every_segment_sealed(tmp_path: Path) -> None:
    for attempt in range(4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, WRITE, str(tmp_path), "--prefix", f"k{attempt}-", "--rotate", "300"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        for _ in range(20 + attempt * 7):
            await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        report = verify(tmp_path)
        assert report.findings == []
        assert states(report).count("sealed") >= 5 * (attempt + 1)


async def test_a_kill_between_the_line_and_the_name_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1)
    await writer.append(SCHEMA, rows(2))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", _refuse)
    await writer.append(SCHEMA, rows(1))  # it goes on in the same segment
    monkeypatch.setattr(Path, "rename", rename)
    assert len(list(chain.read(tmp_path / "predictions.chain"))) == 1
    assert verify(tmp_path).findings == []
    await writer.close()
    await write(tmp_path, [rows(1), rows(1)])
    report = verify(tmp_path)
    assert report.findings == []
    assert [each.rows for each in report.segments] == [3, 1, 1]


def _refuse(self: Path, target: Path) -> Path:
    raise PermissionError(1, f"{self} may not become {target}")


async def test_a_chain_that_cannot_be_written_stops_no_row_and_is_told_later(
    tmp_path: Path,
) -> None:
    obstacle = tmp_path / "predictions.chain"
    obstacle.mkdir(parents=True)
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1)
    for _ in range(3):
        await writer.append(SCHEMA, rows(2))
    obstacle.rmdir()
    assert states(verify(tmp_path)) == ["unsealed", "unsealed", "open"]
    await writer.close()
    assert verify(tmp_path).findings == []
    assert states(verify(tmp_path)) == ["sealed", "sealed", "open"]


async def test_what_was_cut_off_while_it_took_rows_is_found(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1 << 20)
    await writer.append(SCHEMA, rows(4))
    path = tmp_path / "predictions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, sum(map(len, lines[:-1])))
    await writer.append(SCHEMA, rows(1))
    await writer.close()
    report = verify(tmp_path)
    assert states(report) == ["sealed", "open"]
    assert "cut off" in only(report).problem


async def test_what_was_emptied_while_it_took_rows_is_found(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1 << 20)
    await writer.append(SCHEMA, rows(4))
    path = tmp_path / "predictions.csv"
    os.truncate(path, path.read_bytes().index(b"\n") + 1)
    await writer.append(SCHEMA, rows(1))
    await writer.close()
    report = verify(tmp_path)
    assert states(report) == ["open"]
    assert "emptied" in only(report).problem


# Other places


async def test_a_segment_in_an_archive_is_checked_there(tmp_path: Path) -> None:
    log, archive = tmp_path / "log", tmp_path / "archive"
    await write(log, [rows(3), rows(4), rows(1)])
    archive.mkdir()
    name = closed(log)[0].name
    compress(log)
    moved = archive / name.replace(".csv", ".parquet")
    shutil.move(log / moved.name, moved)
    assert only(verify(log)).file == str(log / name)
    report = verify(log, [str(archive)])
    assert report.findings == []
    assert sorted(states(report)) == ["archived", "open", "sealed"]
    assert report.rows == 8
    moved.write_bytes(moved.read_bytes()[:-1])
    assert verify(log, [f"file://{archive}"]).findings[0].file == f"file://{moved}"


async def test_a_segment_that_was_edited_is_not_compressed(tmp_path: Path) -> None:
    await write(tmp_path, [rows(3), rows(4)])
    (path,) = closed(tmp_path)
    path.write_bytes(path.read_bytes().replace(b",0.", b",0.1", 1))
    compress(tmp_path)
    assert path.exists()
    assert not path.with_suffix(".parquet").exists()
    assert only(verify(tmp_path)).file == str(path)


async def test_a_log_is_verified_beside_its_writer_and_its_compression(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=600)
    done = asyncio.Event()

    async def go_on_writing() -> None:
        while not done.is_set():
            await writer.append(SCHEMA, rows(5))
            await asyncio.sleep(0.02)

    writing = asyncio.create_task(go_on_writing())
    await asyncio.sleep(0.1)
    for _ in range(3):
        report = await asyncio.to_thread(verify, tmp_path)
        assert report.findings == []
        await asyncio.to_thread(compress, tmp_path)
    done.set()
    await writing
    await writer.close()
    report = verify(tmp_path)
    assert (report.findings, report.rows) == ([], writer.rows)
    assert [each for each in report.segments if each.file.endswith(".parquet")]


def test_an_archive_that_is_not_there_is_an_error_and_no_finding(tmp_path: Path) -> None:
    """As a folder that is not mounted: its segments were not removed."""
    with pytest.raises(ArchiveUnreachable, match="there is no such folder"):
        verify(tmp_path, [str(tmp_path / "archive")])


def test_nor_are_those_of_one_that_is_empty(tmp_path: Path) -> None:
    """Where a disk is not mounted there mostly is an empty folder."""
    archive = tmp_path / "archive"
    archive.mkdir()
    with pytest.raises(ArchiveUnreachable, match="it is empty"):
        verify(tmp_path, [str(archive)])
    (archive / "README").touch()
    assert verify(tmp_path, [str(archive)]).findings == []
