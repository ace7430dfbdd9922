"""Does a test see it when a protection is taken out? `python -m benchmarks.protections`.

For each entry of `protections.toml`: a copy of the working tree, the change, its tests. Each has to
fail, by an assertion or a timeout, and to pass without the change. Ends with 1 when one does not.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.machine import facts, say
from benchmarks.protected import ROOT, Protection, is_slow, listed
from benchmarks.taken_out import (
    Case,
    Verdict,
    copy_of,
    first_line,
    judged,
    read_report,
    run,
    warm_up,
)

OUTPUT = Path(__file__).with_name("results") / "protections.md"

PATIENCE = (90.0, 3.0)
"""Seconds for a test beyond so many times what it takes as it is."""

HEAD = """# Protections, taken out one by one

Made by `python -m benchmarks.protections`. Each line is a copy of the project in which one
protection does not protect ([the list](../protections.toml) has the very text), and a test that
passes with it and was run without it. What follows `yes` is how it failed."""

Pair = tuple[str, str]
"""The name of a protection, and one of its tests."""


@dataclass
class Trial:
    """The copies, and what is known.

    Attributes:
        folder: of the copies.
        tests: all that are listed.
        cases: of each test as it is.
    """

    folder: Path
    tests: Sequence[str]
    cases: dict[str, list[Case]] = field(default_factory=dict)

    @property
    def whole(self) -> Path:
        """The copy in which nothing was taken out."""
        return self.folder / "whole"

    def as_it_is(self, test: str) -> list[Case]:
        """The cases of a test with all protections; all tests of a file are run at once, once."""
        if test not in self.cases:
            file = test.partition("::")[0]
            some = [each for each in self.tests if each.startswith(f"{file}::")]
            say(f"{file} as it is: {len(some)} tests")
            ran = run(self.whole, some, seconds=3600, all_of_them=True)
            self.cases |= {each: [] for each in some} | read_report(ran)
        return self.cases[test]

    def without(self, protection: Protection, test: str) -> Verdict:
        """Run a test without a protection."""
        cases = self.as_it_is(test)
        outcomes = {case.outcome for case in cases}
        if outcomes != {"passed"}:
            why = next((first_line(case.message) for case in cases if case.message), "nothing ran")
            return Verdict("not run", f"as it is: {', '.join(outcomes)}: {why}", 0.0)
        copy = self.folder / "changed"
        copy_of(self.whole, copy)
        try:
            for change in protection.changes:
                change.apply(copy)
            fixed, times = PATIENCE
            limit = fixed + times * sum(case.seconds for case in cases)
            ran = run(copy, [test], seconds=limit)
            return judged(ran, count=len(cases), cause=protection.cause)
        finally:
            shutil.rmtree(copy, ignore_errors=True)


def digest(protection: Protection, test: str) -> str:
    """Changes when the protection, its files or the test's file do."""
    files = sorted({*(change.file for change in protection.changes), test.partition("::")[0]})
    parts = [json.dumps(asdict(protection)), *((ROOT / file).read_text("utf-8") for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def report(protections: Sequence[Protection], found: Mapping[Pair, Verdict]) -> list[str]:
    """The result as Markdown lines."""
    verdicts = [found.get((each.name, test)) for each in protections for test in each.tests]
    counts = Counter("not run" if each is None else each.fails for each in verdicts)
    sums = (
        f"{counts['yes']} of {len(verdicts)} tests fail without what they need; {counts['no']} do "
        f"not, {counts['broken']} failed otherwise, {counts['not run']} were not run."
    )
    lines = [HEAD, "", *(f"- {fact}" for fact in facts()), "", sums]
    for row in dict.fromkeys(each.row for each in protections):
        lines += ["", f"## {row[0].upper()}{row[1:]}", ""]
        lines += [
            "| what it does | where | test | fails without it | s |",
            "|---|---|---|---|---:|",
        ]
        for each in (each for each in protections if each.row == row):
            for number, test in enumerate(each.tests):
                what = f"{each.does} | {each.place(ROOT)}" if number == 0 else "the same | "
                file, _, name = test.partition("::")
                shown = f"`{file.removeprefix('tests/')}`: `{name}`"
                lines.append(f"| {what} | {shown} | {_cells(found.get((each.name, test)))} |")
    return lines


def _cells(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not run | -"
    fails = verdict.fails if verdict.fails in ("yes", "not run") else f"**{verdict.fails}**"
    # What a test found may be HTML, and this is a page.
    return f"{fails}: {html.escape(verdict.how, quote=False)} | {verdict.seconds:.0f}"


def trials(
    wanted: Sequence[tuple[Protection, str]], found: dict[Pair, Verdict], until: float
) -> Iterator[tuple[Protection, str, Verdict]]:
    """Run what is not known yet, until it is too late to begin another one."""
    with tempfile.TemporaryDirectory(prefix="protections-") as temporary:
        trial = Trial(Path(temporary).resolve(), sorted({test for _, test in wanted}))
        copy_of(ROOT, trial.whole)
        warm_up()
        for protection, test in wanted:
            if (protection.name, test) in found:
                continue
            if time.monotonic() > until:
                break
            yield protection, test, trial.without(protection, test)


def in_order(pairs: Sequence[tuple[Protection, str]]) -> list[tuple[Protection, str]]:
    """Quick tests first; of the slow ones each once before any of them a second time."""
    keys = []
    seen: Counter[str] = Counter()
    for _, test in pairs:
        keys.append((seen[test] + 1) if is_slow(test) else 0)
        seen[test] += 1
    order = sorted(range(len(pairs)), key=keys.__getitem__)
    return [pairs[number] for number in order]


def main() -> None:
    """Take out, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--only", action="append", default=[], help="a name, a row, part of a test")
    parser.add_argument("--quick", action="store_true", help="leave out tests that start services")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then begin no more")
    parser.add_argument("--keep", type=Path, help="a file of what was found, to go on from")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    every = listed()
    pairs = [
        (each, test)
        for each in every
        for test in each.tests
        if not (given.quick and is_slow(test))
        and (
            not given.only
            or any(only in (each.name, each.row) or only in test for only in given.only)
        )
    ]
    pairs = in_order(pairs)
    if given.list:
        for each, test in pairs:
            sys.stdout.write(f"{each.row}\t{each.name}\t{test}\n")
        return
    digests = {(each.name, test): digest(each, test) for each in every for test in each.tests}
    found: dict[Pair, Verdict] = {}
    if given.keep is not None and given.keep.exists():
        for line in given.keep.read_text(encoding="utf-8").splitlines():
            name, test, known, verdict = json.loads(line)
            if digests.get((name, test)) == known:
                found[name, test] = Verdict(**verdict)
    for each, test, verdict in trials(pairs, found, time.monotonic() + 60 * given.minutes):
        say(f"{each.name}, {test.rpartition('::')[2]}: {verdict.fails} ({verdict.how})")
        found[each.name, test] = verdict
        if given.keep is not None:
            line = [each.name, test, digests[each.name, test], asdict(verdict)]
            with given.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        given.output.write_text("\n".join(report(every, found)) + "\n", encoding="utf-8")
    given.output.write_text("\n".join(report(every, found)) + "\n", encoding="utf-8")
    sys.exit(int(any(verdict.fails in ("no", "broken") for verdict in found.values())))


if __name__ == "__main__":
    main()
