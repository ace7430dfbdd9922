"""`verify`: whether a log is what was written, as far as its chains can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitorkit.prediction_log import chain, chain_history, imported, inspection, names, segment
from monitorkit.prediction_log.chain import Record
from monitorkit.prediction_log.chain_history import Known
from monitorkit.prediction_log.compressed import read_compressed
from monitorkit.prediction_log.digest import digest_of
from monitorkit.prediction_log.folders import local_path
from monitorkit.prediction_log.inspection import Source
from monitorkit.prediction_log.local_folder import check_archive
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.parsing import Rows
from monitorkit.prediction_log.remote_folder import reaching
from monitorkit.prediction_log.repeats import Repeats, keys
from monitorkit.prediction_log.verified import Finding, Report, Verified

BESIDE = np.timedelta64(1, "s")
"""Rows that were written meanwhile may be later than those of a batch, by some milliseconds."""

MOST = 10
"""Findings of one kind in one file; further ones are counted."""

RESTORE = "Restore the file from a backup; until then its rows prove nothing."
CLOSED_SO = (
    "It was so when the segment was closed, or is so since it was edited: look for the event "
    "prediction_log_changed, and for whoever else writes this file."
)
GONE = (
    "Restore it from a backup; if you moved it on purpose, add its folder to [log] archives; if "
    "its age was the reason, let [log.retention] delete segments, which notes it."
)
KILLED = "If an import was killed at its very end, import its file again; otherwise: "
NOT_IN_CHAIN = (
    "If you put it there, closed it by hand or cleared the chain, `monitorkit verify-log --seal` "
    "takes it in as it is now; if nobody did, move it away."
)
OTHER_FORM = "no chain speaks of this form of it"
NOT_THIS_FORM = (
    "Its CSV and its Parquet file each have a line of their own. Move this one away, and restore "
    "the other from a backup."
)
CHAIN_EDITED = "Restore the chain from a backup, or compare its head with one that you noted."


IDS = 100_000
"""That come twice and are told apart; of further ones nobody needs each."""


def verify(
    folder: Path,
    archives: Sequence[str] = (),
    *,
    advance: Callable[[float], None] = lambda _: None,
) -> Report:
    """Check every segment of a folder; a service may write meanwhile.

    Args:
        folder: of the log.
        archives: where closed segments may have been moved, as in `[log] archives`.
        advance: told which share is done.

    Raises:
        OSError: a file cannot be read.
        ArchiveUnreachable: an archive cannot be read.
    """
    for archive in archives:
        _look_for(archive)
    with Repeats() as repeats:
        work = _Verification(folder, archives, repeats, advance)
        work.run()
        return work.report


def seal(folder: Path) -> list[str]:
    """Take closed segments that no chain speaks of into their chains, as they are now.

    Returns:
        Their files.

    Raises:
        OSError: a file cannot be read, or a chain not written.
    """
    known = chain_history.read_chains(folder).known
    sealed = []
    for name in names.segments(folder):
        event: chain.Event = "compressed" if name.compressed else "closed"
        # Nor when a line speaks of its other form: nobody saw this one being made of that.
        if not name.closed or {"closed", "compressed"} & known.get(name.stem, {}).keys():
            continue
        path = folder / name.text
        with path.open("rb") as file:
            source = inspection.local(str(path), name, file)
            if name.compressed:
                compressed = read_compressed(source.read, source.size)
                identity = compressed.head.identity if compressed is not None else None
                rows = compressed.rows if compressed is not None else 0
            else:
                head = segment.read_head(source.read)
                identity = head.identity if head is not None else None
                start = head.data_start if head is not None else 0
                rows = segment.count(file.fileno(), start).rows
            digest = digest_of(source.read, source.size)
        chain.append(
            chain.path_of(folder, name),
            event,
            segment=name.text,
            rows=rows,
            bytes=source.size,
            sha256=digest.sha256,
            identity=identity,
            marks=() if name.compressed else tuple(digest.marks),
            origin="found",
        )
        sealed.append(str(path))
    return sealed


class _Verification:
    def __init__(
        self,
        folder: Path,
        archives: Sequence[str],
        repeats: Repeats,
        advance: Callable[[float], None],
    ) -> None:
        self.report = Report()
        self._folder = folder
        self._archives = archives
        self._repeats = repeats
        self._advance_to = advance
        self._total = 1
        self._done = 0
        self._renamed: set[str] = set()
        self._earlier: dict[str, list[Record]] = {}
        self._places: list[tuple[Name, str | None]] = []  # that were read, and in which archive

    def run(self) -> None:
        """Fill the report."""
        # First the chains: what is closed after they were read is told of by their next lines.
        chains = chain_history.read_chains(self._folder)
        known, self.report.chains, self._earlier = chains.known, chains.heads, chains.earlier
        for path, line, problem in chains.wrong:
            self._find(str(path), line, problem, CHAIN_EDITED)
        listed = names.segments(self._folder)
        self._set_total(listed)
        unsealed: list[tuple[Name, str]] = []
        for name in listed:
            self._check(name, known, unsealed)
        stems = {name.stem for name in listed}
        absent = {stem: events for stem, events in known.items() if stem not in stems}
        if any("pruned" not in events for events in absent.values()):
            # Retention tells the chain before it deletes: once more, now that the folder is listed.
            known = chain_history.read_chains(self._folder).known
        for stem, events in absent.items():
            self._check_absent(stem, known.get(stem, events), known, listed, unsealed)
        for name, _ in unsealed:
            if name.text in self._renamed:
                continue
            file = str(self._folder / name.text)
            if known.get(name.stem):
                self._find(file, None, OTHER_FORM, NOT_THIS_FORM)
            else:
                self._find(file, None, "no chain speaks of this closed segment", NOT_IN_CHAIN)
        self._check_repeats()
        self._look_aside()

    # One segment

    def _check(self, name: Name, known: Known, unsealed: list[tuple[Name, str]]) -> None:
        """A segment in the folder; one that is gone since it was listed is in its other form."""
        if not self._found_here(name, known, unsealed) and name.closed:
            again = chain.last_of(chain.path_of(self._folder, name), name.stem)
            self._check_absent(name.stem, again, known, [], unsealed)

    def _found_here(self, name: Name, known: Known, unsealed: list[tuple[Name, str]]) -> bool:
        """Look at a segment in the folder, in whichever form it is; false: it is not there."""
        with ExitStack() as stack:
            source = _here(self._folder, name, stack)
            if source is not None:
                self._look_at(source, self._events(source.name, known), unsealed)
            return source is not None

    def _events(self, name: Name, known: Known) -> Mapping[chain.Event, Record]:
        """What the chain says of a segment, which may have been closed or compressed just now."""
        events = known.get(name.stem, {})
        if name.closed and ("compressed" if name.compressed else "closed") not in events:
            return chain.last_of(chain.path_of(self._folder, name), name.stem)
        return events

    def _look_at(
        self,
        source: Source,
        events: Mapping[chain.Event, Record],
        unsealed: list[tuple[Name, str]],
        *,
        archive: str | None = None,
    ) -> None:
        name = source.name
        verified = Verified(source.place, "sealed" if archive is None else "archived")
        verified.bytes = source.size
        problem: str | None = None
        record = events.get("compressed" if name.compressed else "closed")
        if not name.closed:
            verified.state = "open"
            verified.torn = int(inspection.is_torn(source))
        elif record is None:
            verified.state = "unsealed"
            unsealed.append((name, inspection.sha256_of(source, self._advance)))
        elif name.compressed:
            if inspection.sha256_of(source, self._advance) != record.sha256:
                problem = "it is not the file that compression made: it was edited or replaced"
        else:
            problem = inspection.change(source, record, self._advance)
            problem = problem or self._not_what_it_was(source)
        if problem is not None:
            verified.state = "changed"
            self._find(source.place, None, problem, RESTORE)
        self._check_rows(source, verified)
        if record is not None and problem is None and record.cut:
            self._find(
                source.place,
                None,
                "somebody cut off its end while it took rows: rows that were answered are missing",
                "Restore the file from a backup.",
            )
        self._places.append((name, archive))
        self.report.segments.append(verified)

    def _check_rows(self, source: Source, verified: Verified) -> None:
        file = source.place
        before, end = None, 0

        def tell(line: int | None, reason: str) -> None:
            verified.bad += 1
            if verified.bad <= MOST:
                self._find(file, line, reason, CLOSED_SO)

        for _, rows in inspection.rows(source, tell):
            verified.rows += len(rows.ends)
            self._repeats.add(keys(_identities(source.name, rows)))
            times = rows.times if before is None else np.concatenate([[before], rows.times])
            verified.backwards += int(np.count_nonzero(times[:-1] - times[1:] > BESIDE))
            before = rows.times[-1]
            self._advance(int(rows.ends[-1]) - end)
            end = int(rows.ends[-1])
        if verified.bad > MOST:
            problem = f"{verified.bad - MOST} further lines are no rows"
            self._find(file, None, problem, CLOSED_SO)

    def _not_what_it_was(self, source: Source) -> str | None:
        """What differs from earlier lines: a process that was killed may have gone on in it."""
        for before in self._earlier.get(source.name.stem, ()):
            begin = replace(source, size=min(source.size, before.bytes))
            if inspection.sha256_of(begin, self._advance) != before.sha256:
                return (
                    f"it was edited, and its chain has another line since: it had {before.rows} "
                    f"rows in its first {before.bytes} bytes"
                )
        return None

    # Segments that are not there

    def _check_absent(
        self,
        stem: str,
        events: Mapping[chain.Event, Record],
        known: Known,
        listed: Sequence[Name],
        unsealed: list[tuple[Name, str]],
    ) -> None:
        record = events.get("closed") or events.get("compressed")
        if "pruned" in events:
            self.report.pruned += 1
            self.report.pruned_rows += events["pruned"].rows
            return
        if record is None or self._is_being_closed(record, known, listed):
            return
        name = names.parse(record.segment)
        # It may have got its name just now, and have been compressed since.
        if name is not None and self._found_here(name, known, unsealed):
            return
        if self._found_in_archive(stem, events):
            return
        hashes = {each.sha256 for each in events.values()}
        renamed = [name.text for name, sha256 in unsealed if sha256 in hashes]
        problem = f"this closed segment of {record.rows} rows was removed"
        if record.cut and not record.rows:
            problem = "somebody emptied the segment that took rows then: what was in it is missing"
        if renamed:
            self._renamed.add(renamed[0])
            problem = f"this closed segment was renamed to {renamed[0]}"
            remedy = f"Give it back its name: {record.segment}."
        else:
            remedy = KILLED + GONE if record.origin == "imported" else GONE
        self._find(str(self._folder / record.segment), None, problem, remedy)

    def _found_in_archive(self, stem: str, events: Mapping[chain.Event, Record]) -> bool:
        """Look at the copy that is read: the longest, of equals that in the first archive."""
        copies: list[tuple[str, Source]] = []
        with ExitStack() as stack:
            for archive in self._archives:
                with reaching(archive):
                    source = _in_archive(archive, stem, stack)
                if source is not None:
                    copies.append((archive, source))
            if not copies:
                return False
            archive, source = max(copies, key=lambda copy: copy[1].size)
            unsealed: list[tuple[Name, str]] = []
            with reaching(archive):
                self._look_at(source, events, unsealed, archive=archive)
        if unsealed:
            self._find(source.place, None, OTHER_FORM, NOT_THIS_FORM)
        return True

    def _is_being_closed(self, record: Record, known: Known, listed: Sequence[Name]) -> bool:
        """Whether the last line of a chain speaks of a segment that has not got its name yet."""
        name = names.parse(record.segment)
        if name is None or record.event != "closed" or not record.rows:
            return False
        for each in listed:
            if each.closed or each.writer != name.writer:
                continue
            stems = [stem for stem in known if _is_of(stem, each.writer)]
            newest = max((known[stem].get("closed") for stem in stems), key=_at, default=None)
            if newest is not record:
                return False
            with suppress(FileNotFoundError), (self._folder / each.text).open("rb") as file:
                source = inspection.local(str(self._folder / each.text), each, file)
                return inspection.change(source, record, lambda _: None) is None
        return False

    # Ids

    def _check_repeats(self) -> None:
        wanted = self._repeats.found()
        if not len(wanted):
            return
        first: dict[str, tuple[str, int]] = {}
        for name, archive in self._places:
            told = 0
            for place, line, identity in self._rows_with(name, archive, wanted):
                if identity not in first:
                    if len(first) < IDS:
                        first[identity] = place, line
                    continue
                told += 1
                if told <= MOST:
                    other, at = first[identity]
                    self._find(
                        place,
                        line,
                        f"prediction_id {identity} stands in {other}, line {at}, as well",
                        "Every answer has an id of its own: one of the rows was added. "
                        "Compare both with a backup.",
                    )
            if told > MOST:
                self._find(place, None, f"{told - MOST} further ids come twice", RESTORE)

    def _rows_with(
        self, name: Name, archive: str | None, wanted: NDArray[np.int64]
    ) -> Iterator[tuple[str, int, str]]:
        with ExitStack() as stack:
            if archive is not None:
                source = _in_archive(archive, name.stem, stack)
            else:
                source = _here(self._folder, name, stack)
            if source is None:
                return
            for lines, rows in inspection.rows(source, lambda _line, _reason: None):
                identities = _identities(name, rows)
                for at in np.flatnonzero(np.isin(keys(identities), wanted)).tolist():
                    yield source.place, int(lines[at]), str(identities[at])

    # The rest

    def _look_aside(self) -> None:
        for path in sorted(self._folder.glob("predictions*.csv.*")):
            if path.suffix == ".torn" or ".unknown-" in path.name:
                content = path.read_bytes()
                self.report.set_aside[str(path)] = content.count(b"\n")

    def _find(self, file: str, line: int | None, problem: str, remedy: str) -> None:
        self.report.findings.append(Finding(file, line, problem, remedy))

    def _set_total(self, listed: Sequence[Name]) -> None:
        for name in listed:
            with suppress(FileNotFoundError):
                # Once to hash it, once to look at its rows.
                self._total += 2 * (self._folder / name.text).stat().st_size

    def _advance(self, read: int) -> None:
        self._done += read
        self._advance_to(min(self._done / self._total, 1.0))


def _identities(name: Name, rows: Rows) -> NDArray[np.str_]:
    """What no two rows have: the ids that we give, and of imported rows theirs with their times.

    Those may count from 1 in each file, or name a customer.
    """
    if name.writer != imported.STEM:
        return rows.ids
    times = np.datetime_as_string(rows.times)
    return np.strings.add(np.strings.add(rows.ids, " at "), times)


def _is_of(stem: str, writer: str) -> bool:
    """Whether a closed segment is a writer's: `predictions` begins the names of all the others."""
    name = names.parse(f"{stem}.csv")
    return name is not None and name.writer == writer


def _at(record: Record | None) -> str:
    return record.at if record is not None else ""


def _here(folder: Path, name: Name, stack: ExitStack) -> Source | None:
    for there in (name, names.parse(name.stem + names.COMPRESSED)):
        if there is not None:
            with suppress(FileNotFoundError):
                file = stack.enter_context((folder / there.text).open("rb"))
                return inspection.local(str(folder / there.text), there, file)
    return None


def _look_for(archive: str) -> None:
    """See whether a folder of archives is there: else all segments in it would be "removed"."""
    path = local_path(archive)
    if path is not None:
        check_archive(path, archive)


def _in_archive(archive: str, stem: str, stack: ExitStack) -> Source | None:
    """A closed segment in an archive, in either form."""
    from fsspec.core import url_to_fs  # noqa: PLC0415 - only who has an archive needs it

    system, root = url_to_fs(archive)
    for ending in (".csv", names.COMPRESSED):
        name = names.parse(stem + ending)
        path = f"{root.rstrip('/')}/{stem}{ending}"
        if name is not None and system.exists(path):
            file = stack.enter_context(system.open(path, "rb"))
            return Source(f"{archive.rstrip('/')}/{stem}{ending}", name, file, system.size(path))
    return None
