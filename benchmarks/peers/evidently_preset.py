"""Evidently's DataDriftPreset, as its documentation has it: PREDICTIONS REFERENCE ANSWER."""

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.meter import Meter

predictions, reference, answer = sys.argv[1:]
meter = Meter(Path(answer))
with meter.part("imports"):
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset
    from rows import read
with meter.part("reading"):
    frozen, current = read(predictions, reference)


def drift(current):
    # Stated, as we take all columns for numbers; else few values would be categories.
    definition = DataDefinition(numerical_columns=list(frozen.columns))
    window, before = (
        Dataset.from_pandas(frame, data_definition=definition) for frame in (current, frozen)
    )
    return Report([DataDriftPreset()]).run(window, before).dict()


with meter.part("warm-up"):
    drift(current.head(1_000))
with meter.part("work"):
    drift(current)
meter.write({"rows": len(current), "version": version("evidently")})
