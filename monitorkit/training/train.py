"""Training: data, pipeline, metrics, and all of it into MLflow as the next version of the model."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitorkit import logs, progress, registry, signature
from monitorkit.config import Config
from monitorkit.errors import ModelNotFound
from monitorkit.metric_names import metric_key
from monitorkit.model import MODEL_FILE
from monitorkit.registry import Address
from monitorkit.training import dataset, preprocessing
from monitorkit.training.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from sklearn.pipeline import Pipeline

LIBRARIES = ("scikit-learn", "skops", "numpy", "scipy", "pandas", "mlflow", "monitorkit")
NEEDED = ("mlflow", "scikit-learn", "skops", "numpy", "scipy", "pandas")  # to load the model
PERMUTED_ROWS = 10_000
PERMUTATIONS = 5

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left in the registry.

    Attributes:
        version: of the registered model.
        run_id: of the MLflow run.
        aliased: whether it is the version that is served: only the first one is, by itself.
        metrics: `train_accuracy`, `test_roc_auc` and so on.
    """

    version: str
    run_id: str
    aliased: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Importance:
    """How much each column matters to the model, greatest first, and how that was measured."""

    method: str
    columns: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Made:
    """What a training made, to be logged; `sample` are rows to read the signature from."""

    data: Dataset
    pipeline: Pipeline
    sample: pd.DataFrame
    metrics: Mapping[str, float]
    importance: _Importance


def train(config: Config) -> Trained:
    """Train a model on the data set and register it as the next version.

    Raises:
        DataError: the data cannot be used.
        ConfigError: an argument of the estimator cannot be used.
        RegistryUnavailable: MLflow does not answer.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - comes with scikit-learn

    address = registry.address(config)
    with progress.step("open_experiment", tracking_uri=address.tracking_uri):
        experiment = registry.experiment_id(address)
    with progress.step("load_data"):
        data = dataset.load(config.data)
        parts = dataset.split(
            data, test_share=config.training.test_share, seed=config.training.seed
        )
    # Threads of OpenMP that wait for each other on a busy machine took ten times as long as one.
    with (
        progress.step("train_model", estimator=config.training.estimator) as advance,
        threadpool_limits(1),
    ):
        pipeline = preprocessing.build(config.training)
        frames = [_frame(part) for part in parts]
        table = f"[training.{config.training.estimator}]"
        preprocessing.fit(pipeline, frames[0], parts[0].labels, table)
        advance(0.7)
        metrics = _metrics(pipeline, frames, parts)
        advance(0.8)
        importance = _importance(pipeline, frames[1], parts[1].labels, config.training.seed)
    with progress.step("register_model", model=address.model_name), registry.reported(address):
        made = _Made(data, pipeline, frames[1], metrics, importance)
        trained = _register(config, address, experiment, made)
    log.info(
        "model_trained",
        model=address.model_name,
        version=trained.version,
        run_id=trained.run_id,
        estimator=config.training.estimator,
        **{name: round(value, 4) for name, value in metrics.items() if name.startswith("test_")},
    )
    return trained


def _frame(part: Dataset) -> pd.DataFrame:
    """All columns are float64: MLflow cannot represent a missing value in a column of integers."""
    import pandas as pd  # noqa: PLC0415 - for training only

    return pd.DataFrame(part.features, columns=list(part.columns))


def _metrics(
    pipeline: Pipeline, frames: list[pd.DataFrame], parts: tuple[Dataset, Dataset]
) -> dict[str, float]:
    """Six metrics for the training rows, and the same for the held-out ones."""
    found: dict[str, float] = {}
    for name, frame, part in zip(("train", "test"), frames, parts, strict=True):
        positive = part.labels == pipeline.classes_[1]
        scores = preprocessing.scores(pipeline, frame)
        found |= {f"{name}_{key}": value for key, value in _evaluate(positive, scores).items()}
    return found


def _evaluate(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    from sklearn import metrics  # noqa: PLC0415 - for training only

    predicted = scores > 0.5  # noqa: PLR2004 - as predict() does: a tie is the negative class
    return {
        "accuracy": float(metrics.accuracy_score(positive, predicted)),
        "precision": float(metrics.precision_score(positive, predicted, zero_division=0)),
        "recall": float(metrics.recall_score(positive, predicted)),
        "f1": float(metrics.f1_score(positive, predicted, zero_division=0)),
        "roc_auc": float(metrics.roc_auc_score(positive, scores)),
        "brier": float(metrics.brier_score_loss(positive, scores)),
    }


def _importance(
    pipeline: Pipeline, frame: pd.DataFrame, labels: NDArray[Any], seed: int
) -> _Importance:
    """A forest's own, else how much ROC AUC a column's shuffling costs on held-out rows."""
    own = getattr(pipeline.named_steps["classify"], "feature_importances_", None)
    if own is not None:
        values = own.tolist()
        method = "mean decrease in impurity"
    else:
        from sklearn.inspection import permutation_importance  # noqa: PLC0415 - not for forests

        rows = _of_both_classes(labels, PERMUTED_ROWS)
        result = permutation_importance(
            pipeline,
            frame.iloc[rows],
            labels[rows],
            scoring="roc_auc",
            n_repeats=PERMUTATIONS,
            random_state=seed,
        )
        values = result.importances_mean.tolist()
        method = f"permutation: mean decrease in ROC AUC of held-out rows, {PERMUTATIONS} times"
    ranked = sorted(zip(frame.columns, values, strict=True), key=lambda pair: -pair[1])
    return _Importance(method, dict(ranked))


def _of_both_classes(labels: NDArray[Any], most: int) -> NDArray[np.intp]:
    """About so many rows at most: the first of each class, in their proportion.

    With one class alone there is no ROC AUC.
    """
    share = min(1.0, most / len(labels))
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([some[: math.ceil(share * len(some))] for some in rows]))


def _register(config: Config, address: Address, experiment: str, made: _Made) -> Trained:
    """Log everything in one run, and register the model."""
    import mlflow  # noqa: PLC0415 - 1.5 s and 100 MB

    client = registry.connect(address)
    libraries = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    documents = {
        "schema.json": made.data.schema.to_json(),
        "fingerprint.json": {"source": made.data.source, **made.data.fingerprint.to_json()},
        "feature_importance.json": {
            "method": made.importance.method,
            "columns": made.importance.columns,
        },
        "libraries.json": libraries,
    }
    with warnings.catch_warnings(), mlflow.start_run(experiment_id=experiment) as run:
        # MLflow's own classes, met when it imports its pyfunc flavor.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        run_id = run.info.run_id
        _log_run(client, run_id, _parameters(config, made), made)
        for file, document in documents.items():
            client.log_dict(run_id, document, file)
        logged = mlflow.sklearn.log_model(
            made.pipeline,
            name="model",
            serialization_format="skops",
            skops_trusted_types=list(config.registry.skops_trusted_types),
            # Stated, or MLflow would load the model in a process of its own to find them out.
            pip_requirements=[f"{name}=={libraries[name]}" for name in NEEDED],
            signature=mlflow.models.infer_signature(
                made.sample, made.pipeline.predict(made.sample)
            ),
            metadata={
                signature.SCHEMA_KEY: made.data.schema.to_json(),
                "fingerprint": documents["fingerprint.json"],
                "metrics": dict(made.metrics),
                "libraries": libraries,
            },
        )
        number = _create_version(client, address, run_id, logged.model_id)
    return Trained(number, run_id, _alias(address, number), made.metrics)


def _parameters(config: Config, made: _Made) -> dict[str, str]:
    """What a training can be repeated from."""
    estimator = made.pipeline.named_steps["classify"]
    return {
        "estimator": config.training.estimator,
        "test_share": str(config.training.test_share),
        "seed": str(config.training.seed),
        "target": config.data.target,
        "data_source": made.data.source,
        "data_sha256": made.data.fingerprint.sha256,
        "rows": str(made.data.fingerprint.rows),
        "steps": " > ".join(type(step).__name__ for _, step in made.pipeline.steps),
    } | {f"estimator.{name}": str(value) for name, value in estimator.get_params().items()}


def _log_run(client: MlflowClient, run_id: str, parameters: Mapping[str, str], made: _Made) -> None:
    """One request for all parameters and metrics."""
    from mlflow.entities import Metric, Param  # noqa: PLC0415 - imported by `_register` already

    now = time.time_ns() // 1_000_000
    numbers = dict(made.metrics)
    numbers |= {metric_key(f"importance.{k}"): v for k, v in made.importance.columns.items()}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in numbers.items()],
        params=[Param(name, value) for name, value in parameters.items()],
    )


def _create_version(client: MlflowClient, address: Address, run_id: str, model_id: str) -> str:
    """Register a logged model; `log_model` would, and print about it on stderr."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

    name, source = address.model_name, f"models:/{model_id}"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {registry.SHA256_TAG: _sha256(client, model_id)}
    if not registry.versions(address):
        tags[registry.UNFINISHED_TAG] = "its alias is not set"
    made = client.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
    number = str(made.version)
    # The MLflow UI reads this beside the run.
    tag = json.dumps([{"name": name, "version": number}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": tag})
    return number


def _sha256(client: MlflowClient, model_id: str) -> str:
    """Of a logged model's file, as it was stored."""
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - as above

    where = client.get_logged_model(model_id).artifact_location
    with TemporaryDirectory() as folder:
        path = Path(download_artifacts(f"{where}/{MODEL_FILE}", dst_path=folder))
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _alias(address: Address, number: str) -> bool:
    """Serve the first version at once; any other one waits until somebody promotes it."""
    if registry.versions(address)[:1] == [number]:
        registry.finish_first(address)
        return True
    try:
        served = registry.production_version(address)
    except ModelNotFound:
        served = None
    log.info(
        "version_waits",
        version=number,
        alias=address.alias,
        served=served,
        promote=f"python -m monitorkit promote {number}",
    )
    return False
