"""Work on rows that are in memory, and the parsing that brings them there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from benchmarks.csv_readers import pyarrow_blocks
from monitorkit import config, plugin_manager, reference
from monitorkit.contracts import Bucket, Chunk, Monitor, Timeline
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.prediction_log import Reader
from monitorkit.prediction_log.folders import BLOCK_BYTES
from monitorkit.prediction_log.rows import FIXED
from monitorkit.settings import MonitorEntry

# What NannyML is asked for.
FEATURES = (
    MonitorEntry(name="ks", use="ks", options={"score": False}),
    MonitorEntry(name="js", use="jensen_shannon", options={"score": False}),
)


def monitors_of(file: Path, which: str) -> list[Monitor[Any, Any]]:
    """The monitors of a configuration (`all`), or those of `FEATURES`, with its reference."""
    settings = config.load(file)
    known = plugin_manager.kinds(plugin_manager.build())
    frozen = scored_reference(settings, reference.load(settings.storage.reference), "1")
    entries = settings.monitors if which == "all" else FEATURES
    return [plugin_manager.make_monitor(known, entry, frozen) for entry in entries]


def read(file: Path) -> Chunk:
    """All rows of a configuration's log."""
    blocks = Reader(config.load(file).storage.predictions).read({})
    return Chunk.joined([block.chunk for block in blocks])


def work(monitors: Sequence[Monitor[Any, Any]], chunk: Chunk) -> None:
    """Sum up, once for the monitors that share a summary, and judge."""
    now = datetime.now(UTC)
    summaries: dict[str, Any] = {}
    for number, monitor in enumerate(monitors):
        key = monitor.summary_key() or str(number)
        if key not in summaries:
            summaries[key] = monitor.summarise(chunk)
        buckets = [Bucket(now - timedelta(minutes=1), len(chunk), summaries[key])]
        since = now - timedelta(days=1)
        monitor.judge(Timeline(buckets, now, monitor.merge, since=since), ())


def parse(file: Path) -> int:
    """Parse the segments of a configuration's log with pyarrow and let go of the rows.

    Returns:
        How many there were.
    """
    rows = 0
    for path in sorted(config.load(file).storage.predictions.glob("predictions*.csv")):
        with path.open("rb") as segment:
            names = segment.readline().decode().rstrip("\n").split(",")
        types = {
            **dict.fromkeys(names, pa.float64()),
            "prediction_id": pa.string(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "model_version": pa.dictionary(pa.int32(), pa.string()),
            "prediction": pa.int64(),
        }
        if set(names) != set(types):
            raise ValueError(f"{path} lacks one of {', '.join(FIXED)}")
        with csv.open_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            convert_options=csv.ConvertOptions(column_types=types),
        ) as batches:
            rows += sum(batch.num_rows for batch in batches)
    return rows


def parse_blocks(file: Path) -> int:
    """The same as our reader does it: block by block, in this thread alone."""
    segments = sorted(config.load(file).storage.predictions.glob("predictions*.csv"))
    return sum(table.num_rows for path in segments for table in pyarrow_blocks(path))
