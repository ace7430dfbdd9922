"""What must be there before the service can start: a model in the registry, and a reference.

It runs in a process of its own: MLflow, pandas and a training leave half a gigabyte behind.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from monitorkit import logs, model, probe_rows, progress, reference, registry
from monitorkit.config import Config
from monitorkit.errors import ConfigError, DataError, MonitorkitError, WorkerDied
from monitorkit.model import Model

log = logs.get(__name__)

FEW_ROWS = 200
"""A reference of fewer rows is worth a warning."""

OTHER_DATA = (
    "Point [data] path at the data that the model was trained on, or freeze a reference from it "
    "with `python -m monitorkit bootstrap --from FILE`."
)
"""What to do where the model was trained on other columns."""

STOP_SECONDS = 10.0  # that an interrupted preparation has to clean up


def needed(config: Config) -> bool:
    """Whether a start has to prepare anything; reads a few small files only."""
    known = registry.last_good(registry.address(config), config.storage.models)
    return known is None or not reference.exists(config.storage.reference)


def prepare(config: Config) -> None:
    """Train when there is no model, fetch the served version, freeze a reference if none is.

    Raises:
        MonitorkitError: whatever made a step impossible.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_child, args=(config, sender), name="monitorkit-preparation")
    child.start()
    sender.close()
    try:
        error = receiver.recv()
        child.join()
    except EOFError as end:
        child.join()
        raise WorkerDied("the preparation", f"exit code {child.exitcode}") from end
    except KeyboardInterrupt:
        child.terminate()
        child.join(timeout=STOP_SECONDS)
        child.kill()
        child.join()
        raise
    if error is not None:
        raise error


def prepare_here(config: Config) -> None:
    """`prepare`, in this process; waits for one that a killed service left behind."""
    root = config.storage.root
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        held = FileLock(root / "preparation.lock").acquire()
    with held:
        _prepare(config)


def _prepare(config: Config) -> None:
    address = registry.address(config)
    with progress.step("open_registry", tracking_uri=address.tracking_uri):
        empty = not registry.versions(address)
    if empty:
        from monitorkit.training.train import train  # noqa: PLC0415 - only a first start trains

        train(config)
    else:
        registry.finish_first(address)
    folder = fetch_production(config)
    if not reference.exists(config.storage.reference):
        _freeze(config, folder, None)


def bootstrap(config: Config, source: Path | None = None) -> reference.Metadata:
    """Freeze the reference for the model version that is served.

    Args:
        config: the whole configuration.
        source: a CSV file of which every row becomes the reference; None: the held-out share of
            the data set.

    Raises:
        ReferenceExists: there is one; it never changes.
        ConfigError: [storage] root cannot be written.
        RegistryError: there is no model, whose columns the reference has to have, or it scores none
            of the rows.
        DataError: the data has no such columns, or rows that the model cannot score.
    """
    reference.refuse_existing(config.storage.reference)
    return _freeze(config, fetch_production(config), source)


def fetch_production(config: Config) -> Path:
    """Bring the served version into the local store; returns its folder.

    Raises:
        ConfigError: [storage] root cannot be written.
        RegistryError: there is none, or it cannot be served.
    """
    address = registry.address(config)
    with progress.step("fetch_model", model=address.model_name, alias=address.alias):
        version = registry.production_version(address)
        trusted = config.registry.trust
        with _writing(config.storage.models):
            return registry.fetch(address, version, config.storage.models, trusted)


def _freeze(config: Config, folder: Path, source: Path | None) -> reference.Metadata:
    from monitorkit.training import dataset  # noqa: PLC0415 - pandas, which serving never needs

    card = model.read_card(folder)
    schema = card.schema.with_bounds(config.bounds())
    with progress.step("freeze_reference", model_version=card.version):
        if source is not None:
            features = dataset.load_features(source, schema)
            described = path = str(source)
        else:
            path, features = dataset.held_out(config.data, config.training, schema, OTHER_DATA)
            described = f"held-out {config.training.test_share:.0%} of {path}"
        served = model.load(folder, config.registry.trust, features)
        _require_scores(served, features, path, source)
        with _writing(config.storage.reference):
            metadata = reference.freeze(
                config.storage.reference,
                features,
                schema,
                source=described,
                model_version=card.version,
            )
    # Not before: a version that cannot be served must not replace the one that could.
    with _writing(config.storage.models):
        registry.set_last_good(registry.address(config), config.storage.models, card.version)
    log.info(
        "reference_frozen",
        rows=metadata.num_samples,
        sha256=metadata.reference_hash,
        source=metadata.source,
    )
    if metadata.num_samples < FEW_ROWS:
        log.warning(
            "reference_is_small",
            rows=metadata.num_samples,
            reason="what is near enough is widened by what chance makes of so few rows, so that "
            "drifts are not seen; move it away and freeze one of some thousand rows, such as with "
            "`python -m monitorkit bootstrap --from FILE`",
        )
    return metadata


def _require_scores(
    served: Model,
    features: NDArray[np.float64],
    described: str,
    source: Path | None,
) -> None:
    """Refuse rows that the model cannot score: each cycle would fail, and a reference stays.

    Args:
        served: the model.
        features: (rows, columns) in its order, NaN where missing.
        described: where they come from, for people.
        source: the CSV file of which they are every row; None: they are some rows of one.

    Raises:
        DataError: naming the first one, or what the model says of it.
    """
    from monitorkit.training.table import Table  # noqa: PLC0415 - as in `_freeze`

    names, title = served.card.schema.names, served.card.title()
    remedy = (
        "Correct or remove such rows, freeze a reference from other rows with `python -m "
        "monitorkit bootstrap --from FILE`, or register a model that takes them."
    )
    refusing = np.array([name not in served.accepts_missing for name in names])
    missing = np.argwhere(np.isnan(features) & refusing)
    if missing.size:
        row, column = missing[0].tolist()
        raise DataError(
            described,
            f"a value is missing, and {title} cannot take that in this column",
            remedy,
            line=None if source is None else Table.read(source).line(row),
            column=names[column],
        )
    refusal = probe_rows.scored(served.scorer.scores, features).refusal
    if refusal is not None:
        problem = f"{title} cannot score some of its rows: {type(refusal).__name__}: {refusal}"
        raise DataError(described, problem, remedy) from refusal


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say which path below the storage the file system refuses, and what to do."""
    try:
        yield
    except OSError as error:
        problem = (
            f"{error.filename or path} cannot be written: {error.strerror or error}. Free space, "
            "let this user write there, or choose another folder"
        )
        raise ConfigError("[storage] root", (problem,)) from error


def _child(config: Config, sender: Connection) -> None:
    logs.configure(config.logging.level, config.logging.format)
    # Ctrl-C goes to the whole process group, and is the parent's to pass on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    error: BaseException | None = None
    try:
        prepare_here(config)
    except KeyboardInterrupt:
        return
    except MonitorkitError as problem:
        error = problem
    except Exception as problem:  # told to the parent; the traceback is logged here
        log.exception("preparation_failed")
        error = WorkerDied("the preparation", repr(problem))
    with contextlib.suppress(BrokenPipeError):  # nobody is there any more to be told
        sender.send(error)
    sender.close()
