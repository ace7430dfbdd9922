"""A program that compresses the closed segments of a folder, and says on stdout when it begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet  # noqa: F401 - not in the time that counts

from monitorkit.prediction_log import Reader
from monitorkit.prediction_log.compression import Compression

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    cursor = list(Reader(folder).read({}))[-1].cursor
    print("x", flush=True)  # noqa: T201 - the sign
    while Compression(folder, group_bytes=5_000).work(cursor, seconds=60):
        pass
