"""Customers for scenarios and simulated traffic: three features, one of them missing at times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitorkit.schema import Feature, FeatureSchema

SCHEMA = FeatureSchema(
    (
        Feature("age", "integer", minimum=18, maximum=100),
        Feature("MonthlyIncome", nullable=True, minimum=0),
        Feature("DebtRatio"),
    )
)


def some_features(rows: int = 100) -> NDArray[np.float64]:
    random = np.random.default_rng(7)
    features = np.column_stack(
        [random.integers(20, 90, rows), random.normal(5000, 500, rows), random.random(rows)]
    ).astype(np.float64)
    features[::10, 1] = np.nan
    return features
