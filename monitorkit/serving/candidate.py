"""A model version on its way into service: read and tried out, in whichever process."""

from __future__ import annotations

from pathlib import Path

from monitorkit import model, reference
from monitorkit.errors import ReferenceProblem
from monitorkit.trust import Trust


def try_out(folder: Path, trust: Trust, frozen: Path) -> model.Tried:
    """Try out a stored version on the rows of the reference.

    Args:
        folder: of the version.
        trust: what its file may do when it is read.
        frozen: the reference's folder.

    Raises:
        ModelRefused: as `model.try_out`.
    """
    return model.try_out(folder, trust, _probe(frozen, model.read_card(folder)))


def _probe(frozen: Path, card: model.ModelCard) -> model.Features | None:
    """The reference's rows, on which the fast path must equal `predict_proba`."""
    try:
        found = reference.load(frozen)
    except ReferenceProblem:
        return None  # the monitoring says so; the model is checked on random rows instead
    known, names = found.metadata.features, card.schema.names
    if not set(names) <= set(known):
        return None
    return found.features[:, [known.index(name) for name in names]]
