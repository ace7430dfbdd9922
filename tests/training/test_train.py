"""A training into a real MLflow store: what it leaves there, and when it is served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from monitorkit import registry
from monitorkit.config import Config
from monitorkit.errors import DataError
from monitorkit.schema import FeatureSchema
from monitorkit.settings import Training
from monitorkit.training import dataset, preprocessing
from monitorkit.training import train as train_module
from monitorkit.training.train import Trained, train

pytestmark = pytest.mark.slow

METRICS = {
    f"{part}_{metric}"
    for part in ("train", "test")
    for metric in ("accuracy", "precision", "recall", "f1", "roc_auc", "brier")
}
ROWS = 3000


@pytest.fixture(scope="module", autouse=True)
def no_server() -> Iterator[None]:
    """MLflow keeps the address it was told in this variable, which wins over a configuration."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def no_server_of_the_test_before() -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def configured(root: Path, **training: Any) -> Config:
    return Config.model_validate(
        {
            "storage": {"root": root},
            "data": {"path": root / "none.csv", "synthetic_rows": ROWS},
            "training": {"random_forest": {"n_estimators": 20, "max_depth": 10}, **training},
        }
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return configured(tmp_path_factory.mktemp("monitoring"))


@pytest.fixture(scope="module")
def first(config: Config) -> Trained:
    return train(config)


@pytest.fixture(scope="module")
def second(config: Config, first: Trained) -> Trained:
    assert first.version == "1"
    return train(config)


def client(config: Config) -> MlflowClient:
    return registry.connect(registry.address(config))


def document(config: Config, trained: Trained, file: str) -> Any:
    connected = client(config)
    path = mlflow.artifacts.download_artifacts(
        run_id=trained.run_id, artifact_path=file, tracking_uri=config.tracking_uri
    )
    assert file in {entry.path for entry in connected.list_artifacts(trained.run_id)}
    return json.loads(Path(path).read_text(encoding="utf-8"))


def served(config: Config, trained: Trained) -> Any:
    client(config)
    return mlflow.sklearn.load_model(f"models:/{config.registry.model_name}/{trained.version}")


def frame(config: Config) -> tuple[pd.DataFrame, Any]:
    data = dataset.load(config.data)
    return pd.DataFrame(data.features, columns=list(data.columns)), data


def test_the_first_version_is_served_at_once(config: Config, first: Trained) -> None:
    assert (first.version, first.aliased) == ("1", True)
    found = client(config).get_model_version_by_alias("credit-risk-model", "production")
    assert str(found.version) == "1"
    assert found.run_id == first.run_id


def test_the_next_one_waits_for_a_promotion(config: Config, second: Trained) -> None:
    assert (second.version, second.aliased) == ("2", False)
    assert registry.production_version(registry.address(config)) == "1"
    registry.promote(registry.address(config), "2")
    assert registry.production_version(registry.address(config)) == "2"


def test_two_trainings_give_the_same_answers_bit_for_bit(
    config: Config, first: Trained, second: Trained
) -> None:
    features, _ = frame(config)
    one, two = (served(config, trained).predict_proba(features) for trained in (first, second))
    assert one.tobytes() == two.tobytes()
    assert first.metrics == second.metrics


def test_metrics_parameters_and_importance_are_in_the_run(config: Config, first: Trained) -> None:
    run = client(config).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert set(first.metrics) == METRICS
    assert first.metrics.items() <= run.data.metrics.items()
    assert run.data.params["estimator"] == "random_forest"
    assert run.data.params["estimator.n_estimators"] == "20"
    assert run.data.params["seed"] == "42"
    importance = document(config, first, "feature_importance.json")
    assert importance["method"] == "mean decrease in impurity"
    assert sum(importance["columns"].values()) == pytest.approx(1)
    assert sorted(importance["columns"]) == sorted(frame(config)[1].columns)
    for name, value in importance["columns"].items():
        assert run.data.metrics[f"importance.{name}"] == value


def test_metrics_are_those_of_the_split_that_the_reference_is_made_of(
    config: Config, first: Trained
) -> None:
    _, data = frame(config)
    parts = dataset.split(data, test_share=0.2, seed=42)
    model = served(config, first)
    for name, part in zip(("train", "test"), parts, strict=True):
        rows = pd.DataFrame(part.features, columns=list(part.columns))
        scores = model.predict_proba(rows)[:, 1]
        labels = part.labels == 1
        assert first.metrics[f"{name}_accuracy"] == np.mean(model.predict(rows) == part.labels)
        assert first.metrics[f"{name}_brier"] == pytest.approx(np.mean((scores - labels) ** 2))


def test_schema_fingerprint_and_libraries_are_artifacts_and_in_the_model(
    config: Config, first: Trained
) -> None:
    _, data = frame(config)
    metadata = mlflow.models.get_model_info("models:/credit-risk-model/1").metadata or {}
    assert FeatureSchema.from_json(document(config, first, "schema.json")) == data.schema
    assert FeatureSchema.from_json(metadata["monitorkit_schema"]) == data.schema
    fingerprint = document(config, first, "fingerprint.json")
    assert data.fingerprint.to_json().items() <= fingerprint.items()
    assert metadata["fingerprint"] == fingerprint
    assert metadata["metrics"] == first.metrics
    libraries = document(config, first, "libraries.json")
    assert {"python", "scikit-learn", "mlflow", "numpy", "skops"} <= set(libraries)
    assert metadata["libraries"] == libraries


def test_the_signature_takes_missing_values_in_every_column(config: Config, first: Trained) -> None:
    features, data = frame(config)
    client(config)
    info = mlflow.models.get_model_info(f"models:/credit-risk-model/{first.version}")
    assert tuple(info.signature.inputs.input_names()) == data.columns
    assert {kind.name for kind in info.signature.inputs.input_types()} == {"double"}
    model = mlflow.pyfunc.load_model(f"models:/credit-risk-model/{first.version}")
    answer = model.predict(features.head(5).assign(age=np.nan))
    assert set(np.unique(answer)) <= {0, 1}


def test_the_model_is_saved_without_pickle(config: Config, first: Trained) -> None:
    client(config)
    info = mlflow.models.get_model_info(f"models:/credit-risk-model/{first.version}")
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/credit-risk-model/{first.version}"))
    assert "model.skops" in {path.name for path in folder.iterdir()}
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]


def test_a_model_whose_alias_was_removed_gets_none_by_itself(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert train(config).aliased
    client(config).delete_registered_model_alias("credit-risk-model", "production")
    assert not train(config).aliased
    assert client(config).get_registered_model("credit-risk-model").aliases == {}


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "logistic_regression"])
def test_other_estimators_state_how_importance_was_measured(
    config: Config, first: Trained, estimator: str
) -> None:
    assert first.aliased
    trained = train(configured(config.storage.root, estimator=estimator))
    importance = document(config, trained, "feature_importance.json")
    assert importance["method"].startswith("permutation")
    assert next(iter(importance["columns"])) in {
        "RevolvingUtilizationOfUnsecuredLines",
        "NumberOfTimes90DaysLate",
        "NumberOfTime30-59DaysPastDueNotWorse",
    }
    assert trained.metrics["test_roc_auc"] > 0.75


def test_importance_is_a_number_when_the_first_rows_are_of_one_class() -> None:
    made = dataset.synthetic(ROWS, 1)
    features = pd.DataFrame(made.features, columns=list(made.columns))
    pipeline = preprocessing.build(Training(estimator="logistic_regression"))
    preprocessing.fit(pipeline, features, made.labels, "[training.logistic_regression]")
    count = train_module.PERMUTED_ROWS + 50
    ordered = np.concatenate((np.zeros(count - 20, dtype=int), np.ones(20, dtype=int)))
    rows = [np.flatnonzero(made.labels == label)[0] for label in ordered]
    importance = train_module._importance(pipeline, features.iloc[rows], ordered, 0)
    assert all(map(np.isfinite, importance.columns.values()))


def test_labels_may_be_words(tmp_path: Path) -> None:
    made = dataset.synthetic(ROWS, 1)
    words = np.where(made.labels == 1, "default", "aok")
    path = tmp_path / "words.csv"
    pd.DataFrame(made.features, columns=list(made.columns)).assign(outcome=words).to_csv(
        path, index=False
    )
    config = configured(tmp_path / "root").model_copy(
        update={"data": Config().data.model_copy(update={"path": path, "target": "outcome"})}
    )
    trained = train(config)
    assert trained.metrics["test_roc_auc"] > 0.75
    assert served(config, trained).classes_.tolist() == ["aok", "default"]


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    made = dataset.synthetic(ROWS, 1)
    odd = ["Income (USD)", "rate%", "a&b", "cost$", "x//y", "../up", "größe", "<b>", "[q]", "n°"]
    path = tmp_path / "odd.csv"
    pd.DataFrame(made.features, columns=odd).assign(outcome=made.labels).to_csv(path, index=False)
    config = configured(tmp_path / "root").model_copy(
        update={"data": Config().data.model_copy(update={"path": path, "target": "outcome"})}
    )
    trained = train(config)
    importance = document(config, trained, "feature_importance.json")["columns"]
    assert set(importance) == set(odd)
    kept = client(config).get_run(trained.run_id).data.metrics
    found = sorted(value for name, value in kept.items() if name.startswith("importance"))
    assert found == pytest.approx(sorted(importance.values()))


def test_bad_data_leaves_no_version_behind(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.data.path.write_text("a,SeriousDlqin2yrs\n1,0\nx,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3, column 'a'"):
        train(config)
    assert registry.versions(registry.address(config)) == []


def test_a_training_tells_its_steps_and_nothing_else(tmp_path: Path) -> None:
    """In a process of its own: nothing on stderr, only INFO events, each step begun and done."""
    root = tmp_path / "monitoring"
    code = (
        "from monitorkit import logs, config; logs.configure('INFO', 'json');"
        "from monitorkit.training.train import train;"
        f"train(config.Config(storage={{'root': {str(root)!r}}},"
        " data={'synthetic_rows': 1000},"
        " training={'random_forest': {'n_estimators': 5}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["level"] for event in events} == {"info"}
    names = [event["event"] for event in events]
    steps = ("open_experiment", "load_data", "train_model", "register_model")
    assert [name for name in names if name.endswith("_done")] == [f"{s}_done" for s in steps]
    assert [name for name in names if name.endswith("_started")] == [f"{s}_started" for s in steps]
    assert "dataset_loaded" in names
    assert names[-1] == "model_trained"
