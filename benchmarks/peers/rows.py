"""The rows of a prediction log as a tutorial reads them."""

from pathlib import Path

import pandas as pd


def read(predictions: str, reference: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reference and the log, features only, as floats."""
    frozen = pd.read_csv(reference).astype("float64")
    features = list(frozen.columns)
    parts = [
        pd.read_csv(path, usecols=features)[features].astype("float64")
        for path in sorted(Path(predictions).glob("predictions*.csv"))
    ]
    return frozen, parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
