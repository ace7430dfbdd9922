"""The frozen reference as a model version sees it, which may be one that it was not frozen for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import stored_model
from monitoring_place import SCHEMA, Place, draw, score
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from monitorkit import reference
from monitorkit.errors import SchemaError
from monitorkit.monitoring.scoring import scored_reference

Make = Callable[..., Place]


@pytest.mark.parametrize(
    ("first", "missing", "column", "told"),
    [
        (StandardScaler(), True, "income", "the frozen reference lacks values, and .* needs them"),
        (OrdinalEncoder(), False, r"\(all\)", "cannot score the frozen reference: .*categories"),
    ],
)
def test_a_model_that_cannot_score_the_reference_says_what_to_do(
    place: Make, first: object, column: str, told: str, *, missing: bool
) -> None:
    here = place()
    rows = draw(50, seed=9)
    labels = (score(rows) > np.median(score(rows))).astype(int)
    stored_model.store(
        here.config, "2", SCHEMA, make_pipeline(first, LogisticRegression()).fit(rows, labels)
    )
    frozen = reference.load(here.config.storage.reference)
    if missing:
        frozen.features.flags.writeable = True
        frozen.features[7, 1] = np.nan
    with pytest.raises(SchemaError, match=f"feature '{column}'.*{told}.*bootstrap"):
        scored_reference(here.config, frozen, "2")
