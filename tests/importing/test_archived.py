"""Rows that were imported and then moved to an archive are in the log: nothing is added twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from import_place import MAPS, Place, as_csv, theirs

from monitorkit.errors import ArchiveUnreachable
from monitorkit.prediction_log import Reader
from monitorkit.prediction_log.compression import Compression


def archiving(place: Place, archive: str) -> Place:
    log = place.config.log.model_copy(update={"archives": (archive,)})
    return replace(place, config=place.config.model_copy(update={"log": log}))


def begun(archive: Path) -> Path:
    """A new one: an empty folder would be a disk that is not mounted."""
    archive.mkdir()
    (archive / "README").touch()
    return archive


def everywhere(place: Place) -> int:
    """How many rows there are in the log and its archives."""
    reader = Reader(place.log, place.config.log.archives)
    return sum(len(block.chunk) for block in reader.read({}))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_that_were_moved_to_an_archive_are_there_already(
    place: Place, tmp_path: Path, kind: str
) -> None:
    archive = begun(tmp_path / "archive")
    here = archiving(place, str(archive))
    file = here.write(as_csv(theirs(50)))
    assert here.run(file, maps=MAPS).rows == 50
    if kind == "parquet":
        cursor = [block.cursor for block in Reader(here.log).read({})][-1]
        assert not Compression(here.log).work(cursor, seconds=60)
    for path in here.log.glob("predictions-import-*Z.*"):
        shutil.move(path, archive)
    assert here.read() == 0
    again = here.run(file, maps=MAPS)
    assert (again.rows, again.present) == (0, 50)
    grown = here.run(here.write(as_csv(theirs(70))), maps=MAPS)
    assert (grown.rows, grown.present) == (20, 50)
    assert everywhere(here) == 70


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_that_were_moved_to_s3_are_there_already(place: Place, s3: str, kind: str) -> None:
    here = archiving(place, s3)
    fsspec.filesystem("s3").touch(f"{s3}/README")  # S3 has no empty folders
    file = here.write(as_csv(theirs(50)))
    assert here.run(file, maps=MAPS).rows == 50
    if kind == "parquet":
        cursor = [block.cursor for block in Reader(here.log).read({})][-1]
        assert not Compression(here.log).work(cursor, seconds=60)
    for path in here.log.glob("predictions-import-*Z.*"):
        fsspec.filesystem("s3").put(str(path), f"{s3}/{path.name}")
        path.unlink()
    assert here.read() == 0
    again = here.run(file, maps=MAPS)
    assert (again.rows, again.present) == (0, 50)
    grown = here.run(here.write(as_csv(theirs(70))), maps=MAPS)
    assert (grown.rows, grown.present) == (20, 50)
    assert everywhere(here) == 70


def test_new_rows_get_no_name_that_the_archive_has(place: Place, tmp_path: Path) -> None:
    archive = begun(tmp_path / "archive")
    here = archiving(place, str(archive))
    rows = theirs(3)
    here.run(here.write(as_csv(rows)), maps=MAPS)
    for path in here.log.glob("predictions-import-*Z.*"):
        shutil.move(path, archive)
    for row in rows:
        row[0] += "-other"
    assert here.run(here.write(as_csv(rows)), maps=MAPS).rows == 3
    (segment,) = here.segments()
    assert segment.name == "predictions-import-20260102T030405.123456Z-1.csv"
    shutil.move(segment, archive)
    assert everywhere(here) == 6


def test_an_archive_that_cannot_be_read_ends_the_import_and_leaves_the_log(
    place: Place, tmp_path: Path
) -> None:
    here = archiving(place, str(tmp_path / "away"))
    with pytest.raises(ArchiveUnreachable, match=r"\[log\] archives: .*away"):
        here.run(here.write(as_csv(theirs(5))), maps=MAPS)
    assert here.left_behind() == []
