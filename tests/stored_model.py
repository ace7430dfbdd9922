"""A fitted classifier in the local model store, as the registry would put it there."""

from __future__ import annotations

from typing import Any

import skops.io

from monitorkit import model, model_store
from monitorkit.config import Config
from monitorkit.schema import FeatureSchema


def store(config: Config, version: str, schema: FeatureSchema, classifier: Any) -> None:
    """Put a version of the configured model into the store."""
    where = model_store.address(config)
    folder = model_store.folder(where, config.storage.models, version)
    folder.mkdir(parents=True)
    skops.io.dump(classifier, folder / model.MODEL_FILE)
    card = model.ModelCard(
        name=config.registry.model_name,
        version=version,
        run_id=None,
        tracking_uri=where.tracking_uri,
        created_at="2026-01-01T00:00:00Z",
        sha256="",
        schema=schema,
        classes=(0, 1),
        estimator="",
    )
    model.admit(folder, card, config.registry.trust)
