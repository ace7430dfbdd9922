"""The MLflow registry, and the local store of the model versions that came out of it.

Importing it imports neither MLflow nor scikit-learn; its functions do when they run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from monitorkit import logs, model, signature, sqlite_store
from monitorkit.errors import ModelNotFound, ModelRefused, RegistryUnavailable
from monitorkit.model_store import (
    Address,
    address,
    can_be_kept,
    holds,
    last_good,
    set_last_good,
    shown,
    stored,
)
from monitorkit.model_store import folder as folder_of
from monitorkit.redaction import redacted
from monitorkit.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = [
    "Address",
    "address",
    "connect",
    "experiment_id",
    "fetch",
    "finish_first",
    "last_good",
    "production_version",
    "promote",
    "reported",
    "set_last_good",
    "stored",
    "versions",
]

TEMPORARY = ".fetch-"
ROOT_TAG = "monitorkit.artifact_root"

UNFINISHED_TAG = "monitorkit.unfinished"
"""On a first version until the alias points at it: a training that was killed is finished later."""

SHA256_TAG = "monitorkit.sha256"
"""On a version that we registered: of its model file, which lies where others may write."""

NO_POOL = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
"""A pool would keep the file of an embedded store open that was replaced or deleted since, and a
service would follow the alias in that one for ever."""

# A server that is away is reported within seconds; MLflow's own defaults try for minutes.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

# MLflow's tables use an option of SQLAlchemy that is going away: theirs to mend.
MAPPER_WARNING = "The ``noload`` loader strategy is deprecated"

CLIENTS = "boto3 for s3://, google-cloud-storage for gs://, azure-storage-blob for wasbs://"
CLIENT_PACKAGES = frozenset({"azure", "boto3", "botocore", "google"})
"""Whose own errors are about an artifact store."""

_WHERE = re.compile(r" at 0x[0-9a-fA-F]+")
_ADVICE = "(raised as a result of "

log = logs.get(__name__)


def connect(address: Address) -> MlflowClient:
    """Point MLflow at the registry; an embedded store is created when there is none.

    A server is not spoken to: the first call on the client does that. Wrap further calls in
    `reported`.

    Raises:
        RegistryUnavailable: the embedded store cannot be opened, or its folder was moved.
    """
    mlflow = _import_mlflow()
    with reported(address):
        path = address.sqlite
        if path is None:
            mlflow.set_tracking_uri(address.tracking_uri)
            client: MlflowClient = mlflow.MlflowClient()
            return client
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create one store would trip over each other's migrations.
        with (
            FileLock(f"{path}.lock"),
            sqlite_store.begun_whole(path),
            warnings.catch_warnings(),
        ):
            sqlite_store.check(path)
            warnings.filterwarnings("ignore", message=MAPPER_WARNING)
            mlflow.set_tracking_uri(address.tracking_uri)
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
        logs.adopt_library_loggers()
        _refuse_moved(address, client)
        return client


def experiment_id(address: Address, suffix: str = "") -> str:
    """The experiment named after the model, created when there is none.

    Args:
        address: of the registry.
        suffix: added to the name, for a second experiment of the same model.

    Raises:
        RegistryUnavailable: no answer, or the experiment was deleted.
    """
    client = connect(address)
    name = address.model_name + suffix
    root = address.artifact_root
    with reported(address):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            from mlflow.exceptions import MlflowException  # noqa: PLC0415 - lazy

            location = None if root is None else str(Path(root) / suffix.lstrip("-"))
            tags = {} if root is None else {ROOT_TAG: root}
            try:
                return str(client.create_experiment(name, artifact_location=location, tags=tags))
            except MlflowException as error:  # somebody else was faster
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise error from None
    if experiment.lifecycle_stage != "active":
        raise RegistryUnavailable(
            address.tracking_uri,
            f"experiment {name!r} was deleted; `mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}` brings it back",
        )
    return str(experiment.experiment_id)


def versions(address: Address) -> list[str]:
    """The versions of the model that there are, oldest first; empty when it is unknown.

    Raises:
        RegistryUnavailable: no answer.
    """
    client = connect(address)
    with reported(address):
        # MLflow's filters know no escape: a name stands in the quotes that it does not hold.
        quote = '"' if "'" in address.model_name else "'"
        wanted = f"name={quote}{address.model_name}{quote}"
        found = client.search_model_versions(wanted, max_results=1000)
    return [str(number) for number in sorted(int(version.version) for version in found)]


def production_version(address: Address) -> str:
    """The version that the alias points to.

    Raises:
        ModelNotFound: there is no such model or alias.
        RegistryUnavailable: no answer.
    """
    client = connect(address)
    with reported(address), _missing() as missing:
        found = client.get_model_version_by_alias(address.model_name, address.alias)
    if missing:
        known = versions(address)
        if not known:
            raise ModelNotFound(
                f"model {address.model_name!r}",
                "Run `python -m monitorkit train`, or register one under this name "
                "([registry] model_name).",
            )
        raise ModelNotFound(
            f"alias {address.alias!r} of model {address.model_name!r}",
            f"Run `python -m monitorkit promote VERSION`; versions: {', '.join(known)}.",
        )
    return str(found.version)


def promote(address: Address, version: str) -> None:
    """Point the alias at a version.

    Raises:
        ModelNotFound: there is no such version; names those that there are.
        RegistryUnavailable: no answer.
    """
    client = connect(address)
    if not can_be_kept(version):
        raise _no_version(address, version)
    _model_version(address, client, version)
    with reported(address):
        client.set_registered_model_alias(address.model_name, address.alias, version)
    log.info("model_promoted", model=address.model_name, alias=address.alias, version=version)


def finish_first(address: Address) -> None:
    """Do what a first training had left to do when it was killed: point the alias at its version.

    Raises:
        RegistryUnavailable: no answer.
    """
    client = connect(address)
    for first in versions(address)[:1]:
        if UNFINISHED_TAG not in _model_version(address, client, first).tags:
            return
        with reported(address):
            if address.alias not in client.get_registered_model(address.model_name).aliases:
                client.set_registered_model_alias(address.model_name, address.alias, first)
            client.delete_model_version_tag(address.model_name, first, UNFINISHED_TAG)


def fetch(address: Address, version: str, store: Path, trust: Trust) -> Path:
    """Bring a version into the local store, checked; a whole copy of the same version stays.

    Args:
        address: of the registry.
        version: of the model.
        store: the folder of all local copies.
        trust: what the model's file may do when it is read.

    Returns:
        The version's folder.

    Raises:
        ModelNotFound: there is no such version, or its files are gone.
        ModelRefused: it cannot be served; what was stored before stays as it was.
        RegistryUnavailable: no answer.
    """
    if not can_be_kept(version):
        raise ModelNotFound(
            f"version {shown(version)} of model {address.model_name!r}",
            "No version has such a name: look who wrote it into the prediction log.",
        )
    client = connect(address)
    registered = _model_version(address, client, version)
    folder = folder_of(address, store, version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / "fetch.lock"):
        expected = registered.tags.get(SHA256_TAG)
        if holds(folder, _source(registered), _created_at(registered), expected):
            return folder
        for left in folder.parent.glob(f"{TEMPORARY}*"):  # of a process that was killed
            shutil.rmtree(left)
        with TemporaryDirectory(prefix=TEMPORARY, dir=folder.parent) as temporary:
            fresh = Path(temporary) / "version"
            fresh.mkdir()
            _download(address, registered, fresh, trust)
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            fresh.rename(folder)
    return folder


@contextmanager
def reported(address: Address) -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into RegistryUnavailable.

    Those are the clients of artifact stores, too, which an error alone may name.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - lazy
    from requests.exceptions import RequestException  # noqa: PLC0415 - comes with MLflow
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - the same

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise RegistryUnavailable(address.tracking_uri, _first_line(error)) from error
    except ImportError as error:
        missing = f"the client of its artifact store here ({CLIENTS})"
        if not address.tracking_uri.startswith(("http://", "https://", "sqlite:")):
            missing = f"the driver of its database here, or {missing}"
        raise RegistryUnavailable(
            address.tracking_uri, f"{_first_line(error)}; install {missing}"
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in CLIENT_PACKAGES:
            raise
        reason = f"its artifact store does not answer: {_first_line(error)}"
        raise RegistryUnavailable(address.tracking_uri, reason) from error


def _first_line(error: Exception) -> str:
    """Without where an object is in memory: the same trouble is told in the same words.

    SQLAlchemy may say before the cause what its own users could do about it.
    """
    lines = _WHERE.sub("", str(error)).strip().splitlines()
    cause = next((line for line in lines if not line.startswith(_ADVICE)), "")
    return cause.rstrip(".") or type(error).__name__


def _import_mlflow() -> Any:
    """MLflow, told to give up in bounded time (unless its own variables say otherwise)."""
    logs.quiet_libraries()
    for name, value in {**PATIENCE, **NO_POOL}.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: PLC0415 - 1.5 s and 100 MB

    logs.adopt_library_loggers()
    return mlflow


@contextmanager
def _missing() -> Iterator[list[str]]:
    """Collects the message when MLflow says that something does not exist."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - lazy

    found: list[str] = []
    try:
        yield found
    except MlflowException as error:
        # INVALID_PARAMETER_VALUE is what an unknown alias gives, and a version that is no number.
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        found.append(str(error))


def _model_version(address: Address, client: MlflowClient, version: str) -> ModelVersion:
    with reported(address), _missing() as missing:
        found = client.get_model_version(address.model_name, version)
    if missing:
        raise _no_version(address, version)
    return found


def _no_version(address: Address, version: str) -> ModelNotFound:
    known = ", ".join(versions(address)) or "none"
    what = f"version {shown(version)} of model {address.model_name!r}"
    return ModelNotFound(what, f"Versions: {known}.")


def _refuse_moved(address: Address, client: MlflowClient) -> None:
    """MLflow keeps absolute paths: models of a moved store would be looked for where it was."""
    experiment = client.get_experiment_by_name(address.model_name)
    was = experiment.tags.get(ROOT_TAG) if experiment is not None else None
    root = address.artifact_root
    if root is None or was is None or was == root:
        return
    raise RegistryUnavailable(
        address.tracking_uri,
        f"its records keep the artifacts in {was}, and it is now configured to keep them in "
        f"{root}; MLflow stores absolute paths, so an embedded store cannot be moved or copied. "
        f"Move it back, or move {Path(root).parent} away and train again",
    )


def _source(registered: ModelVersion) -> str:
    return str(registered.source or "")


def _created_at(registered: ModelVersion) -> str:
    return datetime.fromtimestamp(registered.creation_timestamp / 1000, UTC).isoformat()


def _download(address: Address, registered: ModelVersion, folder: Path, trust: Trust) -> None:
    """Fill the folder with the model file and its card; two files come over the wire."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - lazy
    from mlflow.models import Model as MlflowModel  # noqa: PLC0415

    title = f"model {address.model_name!r} version {registered.version}"
    path = _download_file(address, registered, "MLmodel", folder)
    try:
        description = MlflowModel.load(str(path))
        inputs = description.signature
    except (MlflowException, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelRefused(
            title, f"its MLmodel file cannot be read: {error}", "Log the model again."
        ) from error
    path.unlink()
    flavor = description.flavors.get("sklearn")
    form, file = signature.model_file(title, flavor, trust)
    metadata = dict(description.metadata or {})
    schema = signature.feature_schema(title, inputs, metadata)
    _download_file(address, registered, file, folder).rename(folder / model.MODEL_FILE)
    expected = registered.tags.get(SHA256_TAG)
    found = hashlib.sha256((folder / model.MODEL_FILE).read_bytes()).hexdigest()
    if expected is not None and found != expected:
        raise ModelRefused(
            title,
            f"its file is not the one that was registered: SHA-256 {found}, expected {expected}",
            "Restore the file, or train again.",
        )
    model.admit(
        folder,
        model.ModelCard(
            name=address.model_name,
            version=str(registered.version),
            run_id=registered.run_id or None,
            tracking_uri=redacted(address.tracking_uri),  # it is written to a file
            created_at=_created_at(registered),
            sha256="",
            schema=schema,
            classes=(0, 1),
            estimator="",
            form=form,
            metadata={**metadata, "sklearn_version": (flavor or {}).get("sklearn_version")},
            source=_source(registered),
        ),
        trust,
    )


def _download_file(address: Address, registered: ModelVersion, file: str, folder: Path) -> Path:
    """Download one file of a version."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - lazy
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )
    from requests.exceptions import HTTPError  # noqa: PLC0415 - comes with MLflow

    client = connect(address)
    with reported(address):
        # Not through `models:/NAME/...`: names may hold characters that mean something in a URI.
        where = client.get_model_version_download_uri(registered.name, str(registered.version))
        try:
            repository: Any = get_artifact_repository(where)
            return Path(repository.download_artifacts(file, dst_path=str(folder)))
        except (MlflowException, HTTPError, OSError) as error:
            if not _is_absence(error):
                raise
            raise ModelNotFound(
                f"file {file!r} of model {registered.name!r} version {registered.version}",
                f"It is not in {where}. Restore it, or register the model again.",
            ) from error


def _is_absence(error: Exception) -> bool:
    response = getattr(error, "response", None)
    return (
        isinstance(error, FileNotFoundError)
        or getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
        or getattr(response, "status_code", None) == HTTPStatus.NOT_FOUND
        or "No such artifact" in str(error)
    )
