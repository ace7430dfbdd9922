"""NannyML's univariate drift, KS and Jensen-Shannon, one chunk: PREDICTIONS REFERENCE ANSWER."""

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.meter import Meter

predictions, reference, answer = sys.argv[1:]
meter = Meter(Path(answer))
with meter.part("imports"):
    from nannyml import UnivariateDriftCalculator
    from rows import read
with meter.part("reading"):
    frozen, current = read(predictions, reference)
with meter.part("warm-up"):  # the reference is learnt once
    calculator = UnivariateDriftCalculator(
        column_names=list(frozen.columns),
        continuous_methods=["kolmogorov_smirnov", "jensen_shannon"],
        chunk_number=1,
    )
    calculator.fit(frozen)
    calculator.calculate(current.head(1_000))
with meter.part("work"):
    calculator.calculate(current).to_df()
meter.write({"rows": len(current), "version": version("nannyml")})
