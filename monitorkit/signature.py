"""What an MLmodel file says of a model: its file, and the feature schema in its signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from monitorkit.errors import ModelRefused, SchemaError
from monitorkit.schema import Feature, FeatureSchema, FeatureType
from monitorkit.trust import FileForm, Trust

PICKLES = ("cloudpickle", "pickle")
"""MLflow's names of the forms that run code when they are read."""

SCHEMA_KEY = "monitorkit_schema"
"""Metadata of a model that `monitorkit train` made: the schema with its types and nullability."""

_TYPES: Mapping[str, FeatureType] = {
    "boolean": "integer",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
}
_SIGN = "Log it with signature=infer_signature(DataFrame of the features, predictions)."


def model_file(title: str, flavor: Mapping[str, Any] | None, trust: Trust) -> tuple[FileForm, str]:
    """How the model is saved, and its file, relative to MLmodel.

    Args:
        title: the model, for errors.
        flavor: the `sklearn` flavor; None when there is none.
        trust: whether it may be a pickle.

    Raises:
        ModelRefused: not scikit-learn, not a form that is read, or a path that leads elsewhere.
    """
    if flavor is None:
        raise ModelRefused(
            title, "it has no sklearn flavor", "Log it with mlflow.sklearn.log_model."
        )
    saved = flavor.get("serialization_format")
    if saved != "skops" and not (trust.pickles and saved in PICKLES):
        raise ModelRefused(
            title,
            f"it is saved with {saved}, which runs code when it is loaded",
            'Log it with mlflow.sklearn.log_model(..., serialization_format="skops"). If you trust '
            "all who may write to the registry, [registry] allow_pickle = true reads pickles, too.",
        )
    path = PurePosixPath(str(flavor.get("pickled_model", "")))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ModelRefused(title, f"its file is at {str(path)!r}", "Log the model again.")
    return "skops" if saved == "skops" else "pickle", str(path)


def feature_schema(title: str, signature: Any, metadata: Mapping[str, Any]) -> FeatureSchema:
    """The schema: the model's columns in order, with types and nullability.

    A column is nullable when the signature says `required: false`, which is what MLflow infers for
    a column with missing values in the data that it was shown. A float column without any is not,
    though NaN is a float: what training never saw missing has to be given. `[schema]` overrides.

    Args:
        title: the model, for errors.
        signature: mlflow.models.ModelSignature, or None.
        metadata: of the model; `monitorkit_schema` in it wins over the signature.

    Raises:
        ModelRefused: no signature, or one that names no numeric columns.
    """
    if signature is None or signature.inputs is None:
        raise ModelRefused(title, "it has no signature", _SIGN)
    inputs = signature.inputs
    if inputs.is_tensor_spec():
        raise ModelRefused(title, "its signature is a tensor, without column names", _SIGN)
    if signature.params:
        raise ModelRefused(
            title, "its signature has inference parameters", "Log it without `params`."
        )
    columns = list(inputs.inputs)
    if not columns or any(column.name is None for column in columns):
        raise ModelRefused(title, "its signature does not name its columns", _SIGN)
    try:
        schema = FeatureSchema(tuple(_feature(title, column) for column in columns))
        if SCHEMA_KEY in metadata:
            ours = FeatureSchema.from_json(metadata[SCHEMA_KEY])
            if ours.names != schema.names:
                raise ModelRefused(
                    title,
                    f"its signature and its metadata {SCHEMA_KEY} name different columns",
                    "Log the model again.",
                )
            return ours
    except (SchemaError, TypeError, KeyError, AttributeError) as error:
        raise ModelRefused(title, f"its schema cannot be served: {error}", _SIGN) from error
    return schema


def _feature(title: str, column: Any) -> Feature:
    # A DataType is an enum; arrays, objects and maps are classes of their own.
    kind = str(getattr(column.type, "name", column.type))
    if kind not in _TYPES:
        raise ModelRefused(
            title,
            f"column {column.name!r} of its signature is {kind}, not a number",
            "Encode it as a number before the model: requests and monitors are numeric.",
        )
    # Clients of MLflow send true and false; the model computes with 1 and 0.
    bounds = {"minimum": 0.0, "maximum": 1.0} if kind == "boolean" else {}
    return Feature(str(column.name), _TYPES[kind], nullable=not column.required, **bounds)
