"""All folders of a log: the writers' own and its archives, each segment in them once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from monitorkit import logs
from monitorkit.prediction_log.folder import Folder, Found
from monitorkit.prediction_log.local_folder import LocalFolder
from monitorkit.prediction_log.remote_folder import RemoteFolder

log = logs.get(__name__)

BLOCK_BYTES = 2 * 1024 * 1024


def folders_of(
    folder: Path, archives: Sequence[str] = (), *, block_bytes: int = BLOCK_BYTES
) -> list[Folder]:
    """The folders of a log, in the order in which a segment is looked for.

    Args:
        folder: of the writers.
        archives: further ones, local ones or URLs that fsspec knows.
        block_bytes: about how much of a CSV file is held in memory at once.
    """
    further = [_archive(where, block_bytes) for where in archives]
    return [LocalFolder(folder, block_bytes=block_bytes), *further]


def each_once(folders: Sequence[Folder], stack: ExitStack) -> list[tuple[Folder, Found]]:
    """All segments in the order of reading, each once.

    That of the writers' own folder wins, then the longest: a copy may be of a segment that grew.

    Raises:
        ArchiveUnreachable: one of the archives cannot be read.
    """
    found: dict[str, tuple[Folder, Found]] = {}
    own, *_ = folders
    for folder in folders:
        for each in folder.segments(stack):
            there = found.setdefault(each.identity, (folder, each))
            if there[0] not in (own, folder) and each.size > there[1].size:
                found[each.identity] = folder, each
            if there[1] is not each and there[0] is folder:
                log.warning(
                    "prediction_log_copy_ignored",
                    file=folder.file(each.name.text),
                    copy_of=there[1].name.text,
                )
    return sorted(found.values(), key=lambda pair: pair[1].name.order)


def local_path(archive: str) -> Path | None:
    """The path of an archive; None: it is a URL that fsspec knows."""
    path = archive.removeprefix("file://")
    return None if "://" in path or "::" in path else Path(path)


def _archive(where: str, block_bytes: int) -> Folder:
    path = local_path(where)
    if path is None:
        return RemoteFolder(where, block_bytes=block_bytes)
    return LocalFolder(path, block_bytes=block_bytes, archive=where)
