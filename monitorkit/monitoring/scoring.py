"""The reference as one model version sees it: its rows with that version's scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitorkit import logs, registry
from monitorkit.config import Config
from monitorkit.contracts import Chunk
from monitorkit.errors import ModelRefused, SchemaError, told
from monitorkit.monitoring import checkpoint
from monitorkit.reference import Reference, load, verify

if TYPE_CHECKING:
    from monitorkit.model import Model, ModelCard

KEPT = "reference_scores-*.ckpt"
"""The files of scores that are kept, in the folder of the state."""

REFREEZE = (
    "Freeze a reference for this model: move the reference folder away and run `python -m "
    "monitorkit bootstrap`."
)

KEPT_SCORES = 20
"""Of so many models."""

log = logs.get(__name__)


class ScoredReferences:
    """The verified reference with each model version's scores, until one of both changes.

    Args:
        config: the whole configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reference: Reference | None = None
        self._chunks: dict[str, Chunk] = {}
        self._models: dict[str, str | None] = {}

    @property
    def hash(self) -> str:
        """SHA-256 of the reference that was verified last."""
        return self._known().metadata.reference_hash

    @property
    def model_version(self) -> str:
        """The model that was served when the reference was frozen."""
        return self._known().metadata.model_version

    def verify(self) -> list[str]:
        """Verify the reference, and look whether versions are still the models that they were.

        Returns:
            The versions of which everything has to be made anew.

        Raises:
            ReferenceProblem: the reference is missing or is not what was frozen.
        """
        folder = self._config.storage.reference
        if self._reference is None or verify(folder) != self._reference.metadata:
            self._reference = load(folder)
            changed = list(self._chunks)
        else:
            changed = [
                version
                for version, known in self._models.items()
                if model_hash(self._config, version) != known
            ]
            if changed:
                log.warning("model_versions_reused", model_versions=changed)
        return self._forget(changed)

    def keep(self, versions: Collection[str]) -> list[str]:
        """Forget all other versions; returns them."""
        return self._forget([version for version in self._chunks if version not in versions])

    def _forget(self, versions: list[str]) -> list[str]:
        for version in versions:
            self._chunks.pop(version, None)
            self._models.pop(version, None)
        return versions

    def chunk(self, version: str) -> Chunk:
        """The reference as a version sees it.

        Raises:
            RegistryError, SchemaError: as `scored_reference`.
        """
        if version not in self._chunks:
            self._chunks[version] = scored_reference(self._config, self._known(), version)
            self._models[version] = model_hash(self._config, version)
        return self._chunks[version]

    def model(self, version: str) -> str:
        """What tells the model of a version apart from another one of the same number."""
        return self._models.get(version) or ""

    def columns(self, version: str) -> tuple[str, ...] | None:
        """The columns that a version reads; None: nothing was made for it."""
        chunk = self._chunks.get(version)
        return None if chunk is None else chunk.columns

    def model_now(self, version: str) -> str:
        """As `model`, also where nothing was made for the version yet."""
        return self._models.get(version) or model_hash(self._config, version, quietly=True) or ""

    def _known(self) -> Reference:
        if self._reference is None:
            self._reference = load(self._config.storage.reference)
        return self._reference


def model_hash(config: Config, version: str, *, quietly: bool = False) -> str | None:
    """What tells a version in the local store apart; None when it is not there, or is damaged.

    A registry that was deleted and filled again counts its versions from one again. A damaged copy
    is an error for those alone that judge with it: it may be of a version that nobody serves now.
    """
    from monitorkit import model  # noqa: PLC0415 - as below

    folder = registry.stored(registry.address(config), config.storage.models, version)
    if folder is None:
        return None
    try:
        return _identity(model.read_card(folder))
    except ModelRefused as error:
        if not quietly:
            log.warning("stored_model_damaged", reason=f"{error.model}: {error.reason}")
        return None


def _identity(card: ModelCard) -> str:
    """SHA-256 of what a model's scores depend on: its file, and the columns it reads, in order.

    A signature may be corrected, and the same file be another version.
    """
    parts = json.dumps([card.sha256, list(card.schema.names)])
    return hashlib.sha256(parts.encode()).hexdigest()


def scored_reference(config: Config, reference: Reference, version: str) -> Chunk:
    """Score the reference with a model version; scores are kept, for a model takes seconds to load.

    Args:
        config: says where the local model store is, and the registry that fills it.
        reference: verified.
        version: of the model whose predictions are watched.

    Raises:
        RegistryError: when the version is neither in the local store nor in the registry.
        SchemaError: when the version reads columns that the reference does not have, or cannot
            score its rows.
    """
    # scikit-learn takes 2 s to import, which a process that finds its scores on disk shall not pay.
    from monitorkit import model  # noqa: PLC0415 - lazy, see above

    address = registry.address(config)
    folder = registry.stored(address, config.storage.models, version)
    if folder is None:
        trusted = config.registry.trust
        folder = registry.fetch(address, version, config.storage.models, trusted)
    card = model.read_card(folder)
    features = _columns_of(reference, card.schema.names, version)
    identity = _identity(card)
    scores = _kept_scores(config.storage.state, reference, identity, len(features))
    if scores is None:
        trusted = config.registry.trust
        try:
            loaded = model.load(folder, trusted, features)
        except ModelRefused:
            loaded = model.load(folder, trusted)  # refused as well, when it is not for these rows
        scores = _scores(loaded, features)
        _keep_scores(config.storage.state, reference, identity, scores)
    return Chunk.of_rows(card.schema.names, features, scores)


def _scores(loaded: Model, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """A model's scores of the reference, which was frozen for another one perhaps."""
    title = loaded.card.title()
    try:
        return loaded.scores(features)
    except SchemaError as error:
        feature, problem = (
            error.feature,
            f"the frozen reference lacks values, and {title} needs them",
        )
        raise SchemaError(feature, problem, REFREEZE) from error
    except MemoryError:
        raise  # says nothing of the reference
    except Exception as error:
        problem = f"{title} cannot score the frozen reference: {told(error)}"
        raise SchemaError("(all)", problem, REFREEZE) from error


def _columns_of(reference: Reference, names: tuple[str, ...], version: str) -> NDArray[np.float64]:
    known = reference.metadata.features
    for name in names:
        if name not in known:
            raise SchemaError(
                name,
                f"model version {version} reads it, but the frozen reference does not have it",
                REFREEZE,
            )
    return reference.features[:, [known.index(name) for name in names]]


def _path(state: Path, reference: Reference, model_hash: str) -> Path:
    key = f"{reference.metadata.reference_hash} {model_hash}".encode()
    return state / KEPT.replace("*", hashlib.sha256(key).hexdigest()[:16])


def _kept_scores(
    state: Path, reference: Reference, model_hash: str, rows: int
) -> NDArray[np.float64] | None:
    document = checkpoint.load(_path(state, reference, model_hash))
    if document is None or len(document["scores"]) != rows:
        return None
    scores: NDArray[np.float64] = document["scores"]
    return scores


def _keep_scores(
    state: Path, reference: Reference, model_hash: str, scores: NDArray[np.float64]
) -> None:
    try:
        kept = sorted(state.glob(KEPT), key=lambda path: path.stat().st_mtime)
        for old in kept[: -KEPT_SCORES + 1]:
            old.unlink(missing_ok=True)
        checkpoint.save(_path(state, reference, model_hash), {"scores": scores})
    except OSError as error:  # a cache: it costs time next time
        log.warning("reference_scores_not_kept", reason=str(error))
