"""NannyML's univariate drift, Jensen-Shannon of chunks, three deviations: FOLDER CHUNK ANSWER.

Each file of the folder is a stream: `reference` (rows, columns), `values` (rows, columns). Answered
is how many rows there were when a chunk was first called drifted, in any column; null: none was.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from nannyml import UnivariateDriftCalculator
from nannyml.thresholds import StandardDeviationThreshold

AT_ONCE = 50  # chunks, for most streams have an alarm soon

METHOD = "jensen_shannon"


def first_alarm(reference: np.ndarray, values: np.ndarray, chunk: int) -> int | None:
    """Rows until there is one."""
    columns = [f"c{number}" for number in range(reference.shape[1])]
    calculator = UnivariateDriftCalculator(
        column_names=columns,
        continuous_methods=[METHOD],
        thresholds={METHOD: StandardDeviationThreshold()},
        chunk_size=chunk,
    )
    calculator.fit(pd.DataFrame(reference, columns=columns))
    for begin in range(0, len(values), AT_ONCE * chunk):
        block = pd.DataFrame(values[begin : begin + AT_ONCE * chunk], columns=columns)
        table = calculator.calculate(block).filter(period="analysis").to_df()
        alerts = np.any([table[name, METHOD, "alert"].to_numpy() for name in columns], axis=0)
        if alerts.any():
            return begin + (int(np.argmax(alerts)) + 1) * chunk
    return None


folder, rows, answer = sys.argv[1:]
found = {}
for file in sorted(Path(folder).glob("*.npz")):
    with np.load(file) as stream:
        found[file.stem] = first_alarm(stream["reference"], stream["values"], int(rows))
text = json.dumps({"version": version("nannyml"), "found": found})
Path(answer).write_text(text, encoding="utf-8")
