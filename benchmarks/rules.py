"""After how many rows each rule finds a change: `python -m benchmarks.rules`, some seconds.

Three rules with the same guarantee, one false alarm in 3000 days over all columns, and the same
tolerance, looking at every cycle of 100 rows:

- *a union bound* over looks and windows of 1, 2, 4, ... 256 cycles: the distance in a window is
  beyond the tolerance by more than the inequality of Dvoretzky, Kiefer and Wolfowitz (Massart 1990)
  leaves to chance;
- *a time-uniform bound* of a distribution function (Howard and Ramdas 2022) from each of
  monitorkit's starts, with its allowance;
- *monitorkit's*: evidence of events, from the same starts.

Nothing is drawn: the rows since the change have each property as often as on the average, and one
start lies where the change does. So these are rows of a typical stream, of which `alarms.md` has
the medians; the first two see distances only.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from benchmarks import streams
from benchmarks.floor import ROWS_A_CYCLE
from benchmarks.machine import facts
from benchmarks.streams import CHANGES, CYCLE, DAY, Source, Tallies
from monitorkit.sequential.clusters import Clusters
from monitorkit.sequential.events import Limits
from monitorkit.sequential.evidence import distance_error
from monitorkit.sequential.starts import CLASSES, FOLLOWED, allowance_of, grid_step
from monitorkit.sequential.weighing import Weigher

RESULT = Path(__file__).with_name("results") / "rules.md"
WINDOWS = 9
STEP = grid_step(timedelta(minutes=1))
RULES = ("union bound", "time-uniform bound", "monitorkit's")

HEAD = """# Rules with the same guarantee

Made by `python -m benchmarks.rules`, in which stands how: rows after a change until each of three
rules is sure of it, with one false alarm in 3000 days and a tolerance of 0.05, if the rows are what
they are on the average. D is the largest difference of the distribution functions. "-" is more than
a day's.
"""


def main() -> None:
    """Compute, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    lines = [HEAD, *(f"- {fact}" for fact in facts(("numpy", "scipy")))]
    lines += ["", f"| source | change | D | {' | '.join(RULES)} |", "|---|---|---:|---:|---:|---:|"]
    for source in (streams.synthetic(), streams.real()):
        if source is not None:
            for change, (distance, rows) in delays(source).items():
                shown = " | ".join("-" if each is None else f"{each:,}" for each in rows.values())
                lines.append(f"| {source.name} | {change} | {distance:.3f} | {shown} |")
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def delays(source: Source) -> Mapping[str, tuple[float, Mapping[str, int | None]]]:
    """By change: its distance, and by rule the rows until it is found, None where they are not."""
    tallies = Tallies(source)
    weigher = tallies.weigher
    found = {}
    for number, (change, (name, apply)) in enumerate(CHANGES.items()):
        changed = source.changed(apply, number)
        at = source.columns.index(name)
        samples = source.reference[:, at], changed[:, at]
        distance = float(ks_2samp(*samples, method="asymp", nan_policy="omit").statistic)
        on_average = tallies.of(changed).mean(axis=0)

        def union(cycles: int, distance: float = distance) -> bool:
            return distance - union_error(cycles, weigher.rate) > Limits().tolerance

        def uniform(cycles: int, distance: float = distance) -> bool:
            chance = allowance(cycles) * weigher.rate
            return distance - distance_error(cycles * ROWS_A_CYCLE, chance) > Limits().tolerance

        def ours(cycles: int, on_average: NDArray[np.float64] = on_average, at: int = at) -> bool:
            return sure(weigher, on_average * cycles * ROWS_A_CYCLE, allowance(cycles), at)

        windows = [2**power for power in range(WINDOWS)]
        found[change] = (
            distance,
            {
                RULES[0]: _first(union, windows),
                RULES[1]: _first(uniform, range(1, DAY + 1)),
                RULES[2]: _first(ours, range(1, DAY + 1)),
            },
        )
    return found


def _first(finds: Callable[[int], bool], cycles: list[int] | range) -> int | None:
    return next((ROWS_A_CYCLE * each for each in cycles if finds(each)), None)


def union_error(cycles: int, rate: float) -> float:
    """What chance leaves of a distance in a window, at a rate of false alarms of one column."""
    chance = rate * CYCLE.total_seconds() / WINDOWS
    return math.sqrt(math.log(2 / chance) / (2 * cycles * ROWS_A_CYCLE))


def allowance(cycles: int) -> float:
    """Of the starts that are followed for so many cycles, and not much longer."""
    age = cycles * CYCLE / STEP
    return allowance_of(min(max(math.ceil(math.log2(age / FOLLOWED)), 0), CLASSES - 1), STEP)


def sure(weigher: Weigher, since: NDArray[np.float64], allowed: float, column: int) -> bool:
    """Whether monitorkit's rule calls a column drifted.

    Args:
        weigher: of the evidence.
        since: (...,) a tally of the rows since a start.
        allowed: the start's allowance.
        column: which.
    """
    none = np.zeros(1)
    clusters = Clusters(np.ones(1), none, none)
    tally = np.rint(since).astype(np.int64)[np.newaxis]
    successes, trials = (part.astype(np.float64) for part in weigher.events.count(tally))
    evidence = weigher._evidence(successes, trials, tally, clusters)  # noqa: SLF001 - of one start
    over = (evidence - weigher.needed(np.array([allowed])))[0] >= 0
    return any(found and of == column for found, (of, _) in zip(over, weigher.groups, strict=True))


if __name__ == "__main__":
    main()
