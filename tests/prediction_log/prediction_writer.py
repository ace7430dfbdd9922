"""A program that writes a log and says on stdout, a line at a time, what it may answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
from pathlib import Path

import structlog
from prediction_rows import SCHEMA, START, stamp

from monitorkit.errors import LogWriteFailed
from monitorkit.prediction_log import Prediction, Writer


async def main() -> None:
    """Write batches of one to seven rows until killed, or until told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="x-")
    parser.add_argument("--rotate", type=int, default=1 << 30)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--instance", default="")
    parser.add_argument("--durability", choices=["os", "fsync"], default="os")
    given = parser.parse_args()
    if given.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.limit, given.limit))
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    writer = await Writer.open(
        given.folder,
        SCHEMA,
        durability=given.durability,
        rotate_bytes=given.rotate,
        instance=given.instance,
    )
    answered: list[str] = []
    number = batch = 0
    while given.rows is None or batch < given.rows:
        batch += 1
        size = 1 if given.rows is not None else batch % 7 + 1
        names = [f"{given.prefix}{number + i:06d}" for i in range(size)]
        number += size
        try:
            await writer.append(
                SCHEMA, [Prediction(n, stamp(START), "1", 0, 0.5, [1.0, None, 2.0]) for n in names]
            )
        except LogWriteFailed:
            break
        answered += names
        if given.limit is None:
            print(*names, flush=True)  # noqa: T201 - the answers
    print(  # noqa: T201 - the report
        json.dumps({"answered": answered, "failure": writer.failure, "rows": writer.rows})
    )
    await writer.close()


if __name__ == "__main__":
    asyncio.run(main())
