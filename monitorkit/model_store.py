"""The local store: copies of model versions, and which one was served last. No MLflow in here."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from monitorkit import durable, logs, model
from monitorkit.config import Config
from monitorkit.errors import ModelRefused

SCHEMA_VERSION = 1
CURRENT_FILE = "current.json"

NAME_BYTES = 255
"""No file system that we know takes a longer name."""

LARGEST = 2**31 - 1
"""MLflow numbers versions in a column of 32 bits; a database refuses to look for a larger one."""

SHOWN = 40
"""So much of a version is quoted: anything may stand in a log."""

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the served model is registered; pickles, for registry functions run in a worker.

    Attributes:
        tracking_uri: of MLflow: `sqlite:///...` or `http://...`.
        artifact_root: where the embedded store keeps artifacts; None with a server.
        model_name: the registered model.
        alias: of the version that is served.
    """

    tracking_uri: str
    artifact_root: str | None
    model_name: str
    alias: str

    @property
    def sqlite(self) -> Path | None:
        """The file of the embedded store; None with a server."""
        if not self.tracking_uri.startswith("sqlite:///"):
            return None
        return Path(self.tracking_uri.removeprefix("sqlite:///").split("?")[0]).resolve()


def address(config: Config) -> Address:
    """The registry that the configuration means."""
    root = config.artifact_root
    return Address(
        tracking_uri=config.tracking_uri,
        artifact_root=str(root) if root is not None else None,
        model_name=config.registry.model_name,
        alias=config.registry.alias,
    )


def folder(address: Address, store: Path, version: str) -> Path:
    """Where a version is kept, whether or not it is there."""
    return _model_folder(address, store) / _folder_name(version)


def can_be_kept(version: str) -> bool:
    """Whether a version can have a folder; one that cannot is none of a registry's."""
    if version.isascii() and version.isdigit():
        return len(version) <= len(str(LARGEST)) and int(version) <= LARGEST
    return len(_folder_name(version)) <= NAME_BYTES


def shown(version: str) -> str:
    """A version as events and errors quote it."""
    if len(version) <= SHOWN:
        return version
    return f"{version[:SHOWN]}… ({len(version):,} characters)"


def stored(address: Address, store: Path, version: str) -> Path | None:
    """The folder of a version in the local store; None when it is not there."""
    if not can_be_kept(version):
        return None
    path = folder(address, store, version)
    complete = all((path / name).is_file() for name in (model.CARD_FILE, model.MODEL_FILE))
    return path if complete else None


def holds(path: Path, source: str, created_at: str, sha256: str | None = None) -> bool:
    """Whether a folder holds, byte for byte, the version that was registered from there then.

    The number does not tell: a registry that was deleted and filled again counts from one again.

    Args:
        path: the folder.
        source: where the version's files are.
        created_at: when it was registered.
        sha256: of its model file, as the registry says now; None: it does not.
    """
    if not path.exists():
        return False
    try:
        card = model.read_card(path)
        model.read_bytes(path, card)
    except ModelRefused as error:
        log.warning("stored_model_damaged", reason=error.reason)
        return False
    if sha256 not in (None, card.sha256):
        reason = f"{path}: its model has SHA-256 {card.sha256}, the registry says {sha256}"
        log.warning("stored_model_damaged", reason=reason)
        return False
    same = (card.source, card.created_at) == (source, created_at)
    if not same:
        log.warning("stored_model_outdated", version=card.version, stored=card.source, now=source)
    return same


def last_good(address: Address, store: Path) -> str | None:
    """The version that was served last; None when nothing was, or the note cannot be read."""
    path = _model_folder(address, store) / CURRENT_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] == SCHEMA_VERSION:
            return str(document["version"])
        reason = f"schema_version is {document['schema_version']!r}"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
    log.warning("last_good_model_unknown", file=str(path), reason=reason)
    return None


def set_last_good(address: Address, store: Path, version: str) -> None:
    """Note the version that is served, for starts without the registry."""
    path = _model_folder(address, store) / CURRENT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    document = json.dumps({"schema_version": SCHEMA_VERSION, "version": version})
    durable.replace_file(path, document.encode())


def _folder_name(version: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]", "_", version)


def _model_folder(address: Address, store: Path) -> Path:
    """One folder for each registry and model; an embedded store may be moved with its copies."""
    where = address.tracking_uri
    if address.sqlite is not None and address.artifact_root is not None:
        where = os.path.relpath(address.sqlite, Path(address.artifact_root).parent)
    digest = hashlib.sha256(f"{where}\n{address.model_name}".encode()).hexdigest()[:8]
    name = re.sub(r"[^0-9A-Za-z_.-]", "_", address.model_name).lstrip(".")[:64]
    return store / f"{name}-{digest}"
