"""Commands for what is kept: `bootstrap`, `verify`, `verify-log`, `import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from monitorkit import logs
from monitorkit.cli.commands import REFUSED, SOME_REJECTED, Ended, command
from monitorkit.config import Config


@command("bootstrap", "bootstrap --from reference.csv")
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV file whose every row becomes the reference, instead of the held-out share.",
)
def bootstrap(settings: Config, source: Path | None) -> Ended:
    """Freeze the reference, once."""
    from monitorkit import preparation  # noqa: PLC0415 - each imports what it needs

    return Ended(preparation.bootstrap(settings, source))


@command("verify")
def verify(settings: Config) -> Ended:
    """Check the reference against its SHA-256."""
    from monitorkit import reference  # noqa: PLC0415 - as above

    metadata = reference.verify(settings.storage.reference)
    logs.get(__name__).info(
        "reference_verified",
        folder=str(settings.storage.reference),
        sha256=metadata.reference_hash,
        rows=metadata.num_samples,
        created_at=metadata.created_at,
    )
    return Ended(metadata)


@command("verify-log", "verify-log --json | jq .findings")
@click.option(
    "--seal",
    is_flag=True,
    help="First take closed segments that no chain speaks of into their chains, as they are now.",
)
def verify_log(settings: Config, seal: bool) -> Ended:
    """Check every segment of the prediction log: rows, ids, and what each held when it was closed.

    Exit code 0: all is sound; 1: something is not, with a line for each finding.
    """
    from monitorkit import log_check  # noqa: PLC0415 - as above

    document = log_check.run(settings, seal=seal)
    return Ended(document, 0 if document["sound"] else REFUSED)


@command(
    "import old.csv --version 3 --map timestamp=event_time --map probability=score",
    "import old.parquet --version 3 --dry-run",
    name="import",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Our column and the file's column for it, such as timestamp=event_time (repeatable); not "
    "needed for columns of one name. `OURS=` says that the file has none.",
)
@click.option("--version", metavar="V", help="The model version that made all rows.")
@click.option(
    "--time-format",
    default="iso",
    show_default=True,
    metavar="FORMAT",
    help="iso, epoch (seconds), epoch_ms, or as strptime has it: '%d.%m.%Y %H:%M:%S'.",
)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="Of timestamps that do not say theirs, such as Europe/Berlin.",
)
@click.option("--dry-run", is_flag=True, help="Check every row, and leave the log as it is.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where rows go that do not fit; FILE.rejects.csv when not given.",
)
def import_(settings: Config, file: Path, **options: Any) -> Ended:
    """Add a prediction log of another service, CSV or Parquet, to ours.

    OURS are prediction_id, timestamp, model_version, prediction, probability and the model's
    features. Rows that are in the log already are left out, so a file can be imported again.
    Exit code 0: every row is in the log; 3: some were rejected; 1: nothing was imported.
    """
    from monitorkit.importing import backfill  # noqa: PLC0415 - as above

    summary = backfill.run(settings, file, backfill.Options(**options))
    return Ended(summary, SOME_REJECTED if summary.rejected else 0)
