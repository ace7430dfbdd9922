"""One measured reading of a segment: `python -m benchmarks.csv_readers READER FILE SMALL ANSWER`.

Each reader makes the same columns in its library's own form, on one thread: ids as text, times as
UTC in microseconds, model versions as categories, the score and the features as doubles; the label,
which monitoring has no use for, is left out. Started by `benchmarks.readers`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.meter import Meter
from monitorkit.prediction_log.folders import BLOCK_BYTES
from monitorkit.prediction_log.rows import FIXED

ID, TIME, VERSION, LABEL, SCORE = FIXED
CHUNK_ROWS = 16_384
"""About what a block of ours holds, for readers that count in rows."""

Tables = Iterator[Any]
Numbers = NDArray[np.float64]


def header_of(path: Path) -> list[str]:
    """The columns of a segment."""
    with path.open("rb") as file:
        return file.readline().decode().rstrip("\n").split(",")


def numeric(names: list[str]) -> list[str]:
    """The columns of doubles: the score and the features."""
    return names[len(FIXED) - 1 :]


def blocks_of(path: Path) -> Iterator[bytes]:
    """Whole lines after the header, in blocks as our reader has them."""
    with path.open("rb") as file:
        file.readline()
        rest = b""
        while block := file.read(BLOCK_BYTES):
            whole, mark, rest = (rest + block).rpartition(b"\n")
            yield whole + mark


def pyarrow_blocks(path: Path) -> Tables:
    """The way of monitorkit: its own function for a block."""
    from monitorkit.prediction_log.parsing import read_table  # noqa: PLC0415 - one library a run

    columns = len(header_of(path)) - len(FIXED)
    for lines in blocks_of(path):
        yield read_table(lines, lines.count(b"\n"), columns)


def polars_options(path: Path) -> dict[str, Any]:
    """What polars is asked for."""
    import polars as pl  # noqa: PLC0415 - as above

    names = header_of(path)
    types = {
        **dict.fromkeys((ID, TIME, LABEL), pl.String()),
        VERSION: pl.Categorical(),
        **dict.fromkeys(numeric(names), pl.Float64()),
    }
    return {"schema": {name: types[name] for name in names}, "glob": False}


def polars_time() -> Any:
    """The times of texts: with a format, it takes half as long as what `read_csv` does itself."""
    import polars as pl  # noqa: PLC0415 - as above

    return pl.col(TIME).str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us")


def polars_blocks(path: Path, *, times: bool = True) -> Tables:
    """Blocks as ours."""
    import polars as pl  # noqa: PLC0415 - as above

    schema = polars_options(path)["schema"]
    wanted = [place for place, name in enumerate(schema) if name != LABEL]
    for lines in blocks_of(path):
        table = pl.read_csv(io.BytesIO(lines), has_header=False, schema=schema, columns=wanted)
        yield table.with_columns(polars_time()) if times else table


def polars_batches(path: Path) -> Tables:
    """Polars' own batches, which come of its streaming engine."""
    import polars as pl  # noqa: PLC0415 - as above

    lazy = pl.scan_csv(path, **polars_options(path)).drop(LABEL).with_columns(polars_time())
    yield from lazy.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True)


def polars_whole(path: Path) -> Tables:
    """The whole file at once."""
    import polars as pl  # noqa: PLC0415 - as above

    options = polars_options(path)
    wanted = [name for name in options["schema"] if name != LABEL]
    yield pl.read_csv(path, columns=wanted, **options).with_columns(polars_time())


def pandas_tables(path: Path, **options: Any) -> Tables:
    """pandas, with an engine and the size of its chunks."""
    import pandas as pd  # noqa: PLC0415 - as above

    names = header_of(path)
    found = pd.read_csv(
        path,
        usecols=[name for name in names if name != LABEL],
        dtype={ID: "str", VERSION: "category", **dict.fromkeys(numeric(names), "float64")},
        parse_dates=[TIME],
        date_format="ISO8601",
        **options,
    )
    yield from [found] if isinstance(found, pd.DataFrame) else found


READERS: dict[str, Callable[[Path], Tables]] = {
    "pyarrow, 2 MiB blocks": pyarrow_blocks,
    "polars, 2 MiB blocks": polars_blocks,
    "polars, 2 MiB blocks, times as text": partial(polars_blocks, times=False),
    "polars, collect_batches": polars_batches,
    "polars, whole file": polars_whole,
    "pandas C, chunks": partial(pandas_tables, engine="c", chunksize=CHUNK_ROWS),
    "pandas C, chunks, round_trip": partial(
        pandas_tables, engine="c", chunksize=CHUNK_ROWS, float_precision="round_trip"
    ),
    "pandas pyarrow, whole file": partial(pandas_tables, engine="pyarrow"),
}


def numbers_of(table: Any, names: list[str]) -> Numbers:
    """(rows, columns) the doubles of a table of any library."""
    if hasattr(table, "num_rows"):  # ours, whose columns have names of their own
        columns = [column.to_numpy(zero_copy_only=False) for column in table.itercolumns()][3:]
    else:
        columns = [np.asarray(table[name].to_numpy(), np.float64) for name in names]
    return np.column_stack(columns)


def differing(read: Callable[[Path], Tables], path: Path) -> int:
    """How many doubles are not those that were written, to the last bit."""
    names = numeric(header_of(path))
    found = np.concatenate([numbers_of(table, names) for table in read(path)])
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    fields = [line.split(",")[len(FIXED) - 1 :] for line in lines]
    written = np.array([[float(text or "nan") for text in row] for row in fields])
    return int((found.view(np.int64) != written.view(np.int64))[~np.isnan(written)].sum())


def main() -> None:
    """Read with the reader that the arguments name."""
    name, path, small, answer = sys.argv[1:]
    os.environ["POLARS_MAX_THREADS"] = "1"
    meter, read = Meter(Path(answer)), READERS[name]
    with meter.part("imports"):
        import pyarrow as pa  # noqa: PLC0415 - measured

        pa.set_cpu_count(1)
    with meter.part("warm-up"):
        differences = differing(read, Path(small))
    with meter.part("reading"):
        rows = sum(len(table) for table in read(Path(path)))
    meter.write({"rows": rows, "differing": differences})


if __name__ == "__main__":
    main()
