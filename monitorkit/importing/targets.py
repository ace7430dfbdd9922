"""The model versions that a file names: what they read, and from which columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from monitorkit import model, registry
from monitorkit.config import Config
from monitorkit.errors import ModelNotFound
from monitorkit.estimators import Class
from monitorkit.importing.batch import Problem
from monitorkit.importing.cells import shown
from monitorkit.importing.columns import Columns
from monitorkit.model import ModelCard
from monitorkit.schema import FeatureSchema

REMEMBERED = 10_000
"""So many versions: a column of something else has no end of them."""

_WHOLE = re.compile(r"([0-9]+)\.0")


@dataclass(frozen=True, slots=True)
class Target:
    """What rows of one model version become.

    Attributes:
        version: as the registry writes it.
        schema: with the bounds of the configuration.
        classes: the negative and the positive one.
        columns: of the file, by feature; None: it does not have it.
    """

    version: str
    schema: FeatureSchema
    classes: tuple[Class, Class]
    columns: tuple[str | None, ...]


class Targets:
    """Looks versions up, each one once.

    Args:
        config: says where the registry and its local copies are.
        columns: of the file.
    """

    def __init__(self, config: Config, columns: Columns) -> None:
        self._config = config
        self._address = registry.address(config)
        self._columns = columns
        self._known: dict[str, Target | Problem] = {}
        self._registered: list[str] | None = None

    @property
    def schemas(self) -> list[FeatureSchema]:
        """Of the versions that were found so far."""
        return [found.schema for found in self._known.values() if isinstance(found, Target)]

    def only(self, version: str) -> Target:
        """The one version of all rows.

        Raises:
            ModelNotFound: there is no such version.
            DataError: the file lacks columns that it reads.
            RegistryError: it cannot be had.
        """
        target = self._target(self._card(version))
        why = f", which model version {version} reads"
        self._columns.require(target.schema.names, why=why)
        self._known[version] = target
        return target

    def of(self, text: str) -> Target | Problem:
        """The version that a cell names, or why there is none.

        Raises:
            RegistryError: the registry cannot be asked.
        """
        found = self._known.get(text)
        if found is None:
            found = self._look_up(text)
            if len(self._known) < REMEMBERED:
                self._known[text] = found
        return found

    def _look_up(self, text: str) -> Target | Problem:
        if not text:
            return Problem("model_version: is missing")
        whole = _WHOLE.fullmatch(text)  # numbers beside missing values, as pandas writes them
        version = whole[1] if whole else text
        if registry.stored(self._address, self._config.storage.models, version) is None:
            registered = self._versions()
            if version not in registered:
                known = ", ".join(registered) or "none"
                name = self._address.model_name
                kind = f"model_version: must be a version of {name!r} ({known})"
                return Problem(kind, shown(text))
        target = self._target(self._card(version))
        lacking = self._columns.lacking(target.schema.names)
        if lacking:
            named = ", ".join(map(repr, lacking))
            return Problem(f"model version {version} reads {named}, which the file does not have")
        return target

    def _target(self, card: ModelCard) -> Target:
        reads = card.schema.names
        bounds = {name: b for name, b in self._config.bounds().items() if name in reads}
        return Target(
            version=card.version,
            schema=card.schema.with_bounds(bounds),
            classes=card.classes,
            columns=tuple(self._columns.find_all(reads).values()),
        )

    def _card(self, version: str) -> ModelCard:
        store = self._config.storage.models
        folder = registry.stored(self._address, store, version)
        if folder is None:
            if version not in (registered := self._versions()):
                raise ModelNotFound(
                    f"version {version} of model {self._address.model_name!r}",
                    f"Versions: {', '.join(registered) or 'none; train or register one first'}.",
                )
            trusted = self._config.registry.trust
            folder = registry.fetch(self._address, version, store, trusted)
        return model.read_card(folder)

    def _versions(self) -> list[str]:
        if self._registered is None:
            store = self._address.sqlite  # which MLflow would make where there is none
            there = store is None or store.exists()
            self._registered = registry.versions(self._address) if there else []
        return self._registered
