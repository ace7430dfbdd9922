"""A stored model version: its card, its checks, and the engine that scores rows with it.

Imports scikit-learn (which imports pandas) when a model is loaded, MLflow never.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit import engines, estimator_file, estimators, logs, probe_rows
from monitorkit.engines import Choice, Features, Plan, Scorer, Scores
from monitorkit.errors import ModelRefused, SchemaError
from monitorkit.estimators import Class, Unfit
from monitorkit.schema import FeatureSchema
from monitorkit.trust import FileForm, Trust

__all__ = [
    "Features",
    "Model",
    "ModelCard",
    "Scores",
    "Tried",
    "admit",
    "load",
    "read_bytes",
    "read_card",
    "ready",
    "try_out",
]

log = logs.get(__name__)

SCHEMA_VERSION = 1
CARD_FILE = "model.json"
MODEL_FILE = "model.skops"
LABELS_DIFFER = 0.01

DAMAGED = "Delete this folder; it is downloaded from the registry again."
NOT_READ = "See to that, and it is read again; the folder itself may be sound."


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a stored model version.

    Attributes:
        name: the registered model. `version` is its version in the registry.
        run_id: of the training; None when the registry names none.
        tracking_uri: where it came from.
        created_at: ISO 8601, UTC: when the version was registered.
        sha256: of the model file.
        schema: the model's columns, in order.
        classes: the negative and the positive class.
        estimator: class name of the final estimator.
        metadata: what the model was logged with: fingerprint, metrics, libraries.
        form: how the model's file is saved.
        source: what the registry says it was made from; tells versions of one number apart.
        engine: `numpy` when it takes arrays, `pandas` when it reads columns by name.
        engine_reason: why it takes no arrays.
        max_difference: between numpy input and a DataFrame, on random rows.
    """

    name: str
    version: str
    run_id: str | None
    tracking_uri: str
    created_at: str
    sha256: str
    schema: FeatureSchema
    classes: tuple[Class, Class]
    estimator: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    form: FileForm = "skops"
    source: str = ""
    engine: str = "numpy"
    engine_reason: str | None = None
    max_difference: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe form; `from_json` reads it back."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            "schema_version": SCHEMA_VERSION,
            **values,
            "schema": self.schema.to_json(),
            "classes": list(self.classes),
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelCard:
        """Read what `to_json` wrote.

        Raises:
            ValueError: for another schema_version, or when something is missing.
        """
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {version!r}")
        values = {key: item for key, item in value.items() if key != "schema_version"}
        try:
            negative, positive = values["classes"]
            values["classes"] = (negative, positive)
            values["schema"] = FeatureSchema.from_json(values["schema"])
            return cls(**values)
        except (KeyError, TypeError, SchemaError) as error:
            raise ValueError(f"incomplete or inconsistent: {error}") from error

    def title(self) -> str:
        """The model and its version, for errors."""
        return f"model {self.name!r} version {self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A loaded model version; safe to use from several threads.

    Attributes:
        card: what is known of it.
        scorer: the engines that score, how fast they are, and how they were compared.
        accepts_missing: columns in which the model itself can take NaN.
    """

    card: ModelCard
    scorer: Scorer
    accepts_missing: frozenset[str]
    _refused: NDArray[np.intp] = field(repr=False)

    def scores(self, features: Features) -> Scores:
        """Score rows.

        Args:
            features: (rows, columns) in schema order, NaN where missing.

        Returns:
            (rows,) probability of the positive class.

        Raises:
            SchemaError: a value is missing in a column in which the model cannot take that.
        """
        if not len(features):
            return np.empty(0)
        if len(self._refused):
            # scikit-learn's own look at every value is switched off for speed.
            missing = np.isnan(features[:, self._refused])
            if missing.any():
                column = self.card.schema.names[self._refused[missing.any(axis=0).argmax()]]
                raise SchemaError(
                    column,
                    f"a value is missing, and {self.card.title()} cannot take that",
                    "Leave `nullable` false in [schema], or train with an imputer.",
                )
        return self.scorer.scores(features)

    def labels(self, scores: Iterable[float]) -> list[Class]:
        """The class of each score, as `predict` says: the positive one above 0.5."""
        negative, positive = self.card.classes
        return [positive if score > 0.5 else negative for score in scores]  # noqa: PLR2004


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A model version that was read and tried out; pickles, so another process may do that.

    Attributes:
        card: what is known of it.
        estimator: as it was fitted, but for what the plan says.
        accepts: (columns,) whether it can take NaN there.
        plan: which engines serve it.
    """

    card: ModelCard
    estimator: Any
    accepts: NDArray[np.bool_]
    plan: Plan


def read_card(folder: Path) -> ModelCard:
    """Read the card of a stored version; imports no machine learning.

    Raises:
        ModelRefused: it is missing or damaged.
    """
    try:
        document = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        return ModelCard.from_json(document)
    except (OSError, ValueError, RecursionError) as error:
        # Too many open files, say, are no fault of a folder: nobody shall delete it for that.
        remedy = NOT_READ if isinstance(error, OSError) else DAMAGED
        raise ModelRefused(
            f"the model in {folder}", f"{CARD_FILE} cannot be read: {error}", remedy
        ) from error


def read_bytes(folder: Path, card: ModelCard) -> bytes:
    """The model file, byte for byte what was stored.

    Raises:
        ModelRefused: with the expected and the found hash.
    """
    path = folder / MODEL_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelRefused(card.title(), f"{path} cannot be read: {error}", NOT_READ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        reason = f"{path}: expected SHA-256 {card.sha256}, found {found}"
        raise ModelRefused(card.title(), reason, DAMAGED)
    return data


def load(folder: Path, trust: Trust, probe: Features | None = None) -> Model:
    """Load a stored version: `try_out`, then `ready`; arguments and errors are theirs."""
    return ready(try_out(folder, trust, probe))


def try_out(folder: Path, trust: Trust, probe: Features | None = None) -> Tried:
    """Read a stored version, see what it answers, and plan which engines serve it.

    Args:
        folder: as `registry.fetch` made it.
        trust: what the file may do when it is read.
        probe: (rows, columns) on which every engine must equal `predict_proba`, such as the
            reference; None: random rows within the schema's bounds only. Rows that the model
            refuses are left out.

    Raises:
        ModelRefused: damaged, of untrusted types, not a binary classifier, what it answers are no
            probabilities, or it scores no row, neither a random one nor one of the probe.
    """
    card = read_card(folder)
    return _try_out(card, read_bytes(folder, card), trust, probe)


def ready(tried: Tried) -> Model:
    """Build the engines of a model that was tried out, which takes milliseconds.

    Raises:
        ModelRefused: they answer otherwise here.
    """
    card = tried.card
    with _refusing(card):
        fitted = engines.as_fitted(tried.estimator, card.schema.names)
        scorer = engines.build(tried.estimator, fitted, tried.plan)
    return Model(
        card=card,
        scorer=replace(scorer, choice=_with_card(scorer.choice, card)),
        accepts_missing=frozenset(
            name
            for name, accepted in zip(card.schema.names, tried.accepts, strict=True)
            if accepted
        ),
        _refused=np.flatnonzero(~tried.accepts),
    )


def admit(folder: Path, card: ModelCard, trust: Trust) -> ModelCard:
    """Check a model file that has just come from the registry, and write its card beside it.

    A column is nullable when the schema says so and the model can take NaN there; where no row is
    at hand that it scores, nobody knows yet, and the schema stays as it is.

    Args:
        folder: holds the model file.
        card: without hash, classes, estimator and engine, which are found out here.
        trust: as for `load`.

    Raises:
        ModelRefused: it is not a binary classifier that can be served.
    """
    data = (folder / MODEL_FILE).read_bytes()
    estimator = _deserialised(card, data, trust)
    with _refusing(card):
        classes = estimators.classes_of(estimator)
        choice = engines.compare_with_frame(estimator, card.schema)
    card = replace(
        card,
        sha256=hashlib.sha256(data).hexdigest(),
        classes=classes,
        estimator=_final_name(estimator),
        engine=choice.name,
        engine_reason=choice.reason,
        max_difference=choice.max_difference,
    )
    tried = _try_out(card, data, trust, None)
    accepts = ready(tried).accepts_missing
    if len(tried.plan.rows):
        features = []
        for feature in card.schema.features:
            if feature.nullable and feature.name not in accepts:
                log.info("feature_must_be_given", feature=feature.name, model=card.title())
            features.append(replace(feature, nullable=feature.nullable and feature.name in accepts))
        card = replace(card, schema=FeatureSchema(tuple(features)))
    try:
        text = json.dumps(card.to_json(), allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:  # YAML, in which MLflow keeps it, has more values
        raise ModelRefused(
            card.title(),
            f"its metadata cannot be written as JSON: {error}",
            "Log it with texts, finite numbers, true and false as metadata.",
        ) from error
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    return card


def _try_out(card: ModelCard, data: bytes, trust: Trust, probe: Features | None) -> Tried:
    estimator = _deserialised(card, data, trust)
    names = card.schema.names
    with _refusing(card):
        if estimators.classes_of(estimator) != card.classes:
            raise Unfit(f"its classes are not {card.classes}", "Delete the stored folder.")
        fitted = engines.as_fitted(estimator, names)
        accepts, likely, unlikely = probe_rows.tried(fitted.scores, card.schema, probe)
        found = likely + unlikely
        # Without real rows at hand nobody can tell whether those would be scored.
        hopeless = probe is not None or not engines.is_about_values(found, estimator, names)
        if found.refusal and not len(found.rows) and hopeless:
            raise found.refusal
        judged = likely if probe is not None else unlikely
        differ = engines.labels_differ(estimator, names, judged.rows, judged.scores)
        if differ > LABELS_DIFFER and probe is not None:
            raise Unfit(
                f"predict and a probability above 0.5 disagree on {differ:.1%} of the reference",
                "Register the classifier without a threshold of its own, and apply that to the "
                "`probability` in the answers.",
            )
        plan = engines.plan(estimator, fitted, found, arrays=card.engine == "numpy")
    if differ:
        log.warning("labels_differ_from_predict", model=card.title(), share=differ)
    if probe is not None and len(likely.rows) < len(probe):
        log.warning(
            "reference_rows_not_scored",
            model=card.title(),
            rows=len(probe) - len(likely.rows),
            refused=len(likely.refused),
            reason=str(likely.refusal or "a value is missing, or beyond float32"),
        )
    return Tried(card, estimator, accepts, plan)


def _with_card(choice: Choice, card: ModelCard) -> Choice:
    """The choice, with what was found when the model came from the registry."""
    return replace(
        choice,
        reason=choice.reason or (card.engine_reason if choice.name == "pandas" else None),
        max_difference=max(choice.max_difference, card.max_difference),
    )


@contextmanager
def _refusing(card: ModelCard) -> Iterator[None]:
    """Whatever a model does when it is tried out becomes one error for people."""
    try:
        # Random rows may overflow where real ones do not: no news for anybody's log.
        with np.errstate(all="ignore"):
            yield
    except Unfit as unfit:
        raise ModelRefused(card.title(), unfit.reason, unfit.remedy) from unfit
    except Exception as error:
        raise ModelRefused(
            card.title(),
            f"it cannot score rows of its signature: {type(error).__name__}: {error}",
            "Log it with the signature of the data that it was fitted on, with the versions of "
            "scikit-learn and numpy that are installed here.",
        ) from error


def _deserialised(card: ModelCard, data: bytes, trust: Trust) -> Any:
    logged_with = card.metadata.get("sklearn_version")
    return estimator_file.read(card.title(), data, card.form, trust, logged_with)


def _final_name(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__
