"""whylogs' profile of all rows: PREDICTIONS REFERENCE ANSWER."""

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.meter import Meter

predictions, reference, answer = sys.argv[1:]
meter = Meter(Path(answer))
with meter.part("imports"):
    import whylogs
    from rows import read
with meter.part("reading"):
    frozen, current = read(predictions, reference)
with meter.part("warm-up"):
    whylogs.log(pandas=current.head(1_000)).view()
with meter.part("work"):
    whylogs.log(pandas=current).view()
meter.write({"rows": len(current), "version": version("whylogs")})
