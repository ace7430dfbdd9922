"""One model twice: in monitorkit, and behind MLflow's own scoring server."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import skops.io
from mlflow.models import infer_signature
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monitorkit import model, signature
from monitorkit.serving.served import Served
from monitorkit.settings import Registry

with warnings.catch_warnings():
    # MLflow says this of classes of its own when they are imported.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

COLUMNS = ["age", "late 30-59 days", "DebtRatio", "MonthlyIncome", "owner"]


@dataclass(frozen=True)
class Twin:
    """Both halves.

    Attributes:
        served: for monitorkit.
        pyfunc: what `mlflow models serve` predicts with.
        app: its web application.
    """

    served: Served
    pyfunc: Any
    app: Any


def frame(rows: int, seed: int) -> pd.DataFrame:
    """Rows of each type that a signature may have."""
    random = np.random.default_rng(seed)
    income = random.normal(5000, 2000, rows)
    income[::7] = np.nan
    return pd.DataFrame(
        {
            "age": random.integers(18, 90, rows),
            "late 30-59 days": random.integers(0, 6, rows),
            "DebtRatio": random.exponential(0.5, rows),
            "MonthlyIncome": income,
            "owner": random.random(rows) < 0.5,
        }
    )


def make(folder: Path, columns: list[str] = COLUMNS) -> Twin:
    """Train once on some columns, log with MLflow and store as the registry would."""
    whole = frame(400, seed=1)
    train = whole[columns]
    labels = (whole["late 30-59 days"] + np.random.default_rng(2).normal(0, 1, 400) > 2.5).astype(
        int
    )
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    pipeline.fit(train, labels)
    with warnings.catch_warnings():
        # MLflow's advice for people with missing whole numbers.
        warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer")
        signed = infer_signature(train, pipeline.predict(train))
    trusted = Registry().trust
    mlflow.sklearn.save_model(
        pipeline,
        folder / "mlflow",
        signature=signed,
        serialization_format="skops",
        skops_trusted_types=list(trusted.types),
        pip_requirements=["scikit-learn"],
    )
    ours = folder / "1"
    ours.mkdir()
    skops.io.dump(pipeline, ours / model.MODEL_FILE)
    card = model.ModelCard(
        name="credit-risk-model",
        version="1",
        run_id=None,
        tracking_uri="",
        created_at="2026-01-01T00:00:00Z",
        sha256="",
        schema=signature.feature_schema("the model", signed, {}),
        classes=(0, 1),
        estimator="",
    )
    model.admit(ours, card, trusted)
    pyfunc = mlflow.pyfunc.load_model(str(folder / "mlflow"))
    bounds = {"age": {"minimum": 18.0, "maximum": 120.0}} if "age" in columns else {}
    served = Served.of(model.load(ours, trusted), bounds)
    return Twin(served, pyfunc, scoring_server.init(pyfunc))
