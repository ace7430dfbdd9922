"""The prediction log on disk: `Writer` for the process that serves, `Reader` for all others.

A folder of CSV segments: `predictions.csv` takes the new rows, `predictions-<first timestamp>.csv`
are closed. A segment is only ever appended to, and is known by its first row's prediction_id.
Several writers may share a folder when each has an instance, which is in the names of its files.
"""

from __future__ import annotations

from monitorkit.prediction_log.blocks import Block, Cursor
from monitorkit.prediction_log.pieces import Piece, Plan
from monitorkit.prediction_log.reader import Reader
from monitorkit.prediction_log.rows import Prediction, Predictions
from monitorkit.prediction_log.writer import Writer

__all__ = ["Block", "Cursor", "Piece", "Plan", "Prediction", "Predictions", "Reader", "Writer"]
