"""The prediction log on disk: `Writer` for the one process that serves, `Reader` for all others.

A folder of CSV segments: `predictions.csv` takes the new rows, `predictions-<first timestamp>.csv`
are closed. A segment is only ever appended to, and is known by its first row's prediction_id.
"""

from __future__ import annotations

from monitorkit.prediction_log.reader import Block, Cursor, Reader
from monitorkit.prediction_log.rows import Prediction
from monitorkit.prediction_log.writer import Writer

__all__ = ["Block", "Cursor", "Prediction", "Reader", "Writer"]
