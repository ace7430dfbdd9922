"""Tensors of the Open Inference Protocol: requests to rows, predictions to outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic_core import to_json

from monitorkit.prediction_log import Predictions
from monitorkit.serving import problems
from monitorkit.serving.protocols import pieces
from monitorkit.serving.protocols.tables import bad_request, check_count, is_flag, read_rows
from monitorkit.serving.served import Served, Values

_BITS = (8, 16, 32, 64)
INTEGERS: Mapping[str, range] = {
    **{f"INT{bits}": range(-(2 ** (bits - 1)), 2 ** (bits - 1)) for bits in _BITS},
    **{f"UINT{bits}": range(2**bits) for bits in _BITS},
}
FLOATS: Mapping[str, type[np.floating[Any]]] = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
DATATYPES = (*FLOATS, *sorted(INTEGERS), "BOOL")
_SHOWN = 100
_LONGEST = 2**53  # a size beyond is no number of rows, and Python prints no number of 4,300 digits

_OUTPUTS: Mapping[str, Callable[[Predictions], Sequence[object]]] = {
    "prediction": lambda rows: rows.labels,
    "probability": lambda rows: rows.probabilities,
    "prediction_id": lambda rows: rows.ids,
}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request, read.

    Attributes:
        rows: validated.
        identity: the client's, which the answer repeats.
        wanted: names of outputs, in the order of the answer.
    """

    rows: list[Values]
    identity: str | None
    wanted: tuple[str, ...]


def tensors(served: Served) -> list[dict[str, Any]]:
    """The inputs, as the metadata of a model lists them: one for each feature."""
    found = []
    for feature in served.schema.features:
        whole = "BOOL" if is_flag(feature) else "INT64"
        datatype = "FP64" if feature.type == "number" or feature.nullable else whole
        found.append({"name": feature.name, "datatype": datatype, "shape": [-1, 1]})
    return found


def outputs(served: Served) -> list[dict[str, Any]]:
    """The outputs, as the metadata of a model lists them."""
    return [{"name": name, "datatype": _datatype(served, name), "shape": [-1]} for name in _OUTPUTS]


def encode(predictions: Predictions, served: Served, request: InferRequest) -> bytes:
    """The JSON of an answer."""
    card = served.model.card
    answer: dict[str, Any] = {"model_name": card.name, "model_version": card.version}
    if request.identity is not None:
        answer["id"] = request.identity
    answer["outputs"] = [
        {
            "name": name,
            "shape": [len(predictions)],
            "datatype": _datatype(served, name),
            "data": _OUTPUTS[name](predictions),
        }
        for name in request.wanted
    ]
    return to_json(answer)


def read_request(served: Served, body: bytes | bytearray, limit: int) -> InferRequest:
    """Read an inference request.

    Raises:
        Problem: 400 for what is none, 413 for too many rows, 422 for wrong values.
    """
    try:
        document = pieces.parse(body, nested=b"[")
    except ValueError as error:
        raise problems.not_json(str(error), body) from None
    if not isinstance(document, dict):
        raise bad_request("The body must be an object with inputs.")
    identity = document.get("id")
    if not isinstance(identity, str | None):
        raise bad_request("id must be a string.")
    wanted = _wanted(document.get("outputs"))
    return InferRequest(_read_inputs(served, document.get("inputs"), limit), identity, wanted)


def _read_inputs(served: Served, inputs: Any, limit: int) -> list[Values]:
    if not isinstance(inputs, list) or not inputs:
        raise bad_request("inputs must be a list of tensors.")
    if len(inputs) > len(served.schema.features):
        # Also spares the reading of what cannot be right.
        raise bad_request(
            f"There are {len(inputs)} inputs, and the model reads {len(served.schema.features)}."
        )
    read = [_read_tensor(tensor, position) for position, tensor in enumerate(inputs)]
    names = served.schema.names
    first = read[0]
    if len(read) == 1 and len(first.shape) == 2 and first.shape[1] != 1:  # noqa: PLR2004
        if first.shape[1] != len(names):
            raise bad_request(
                f"Input {first.name[:_SHOWN]!r} has {first.shape[1]} columns, and the model reads "
                f"{len(names)}, in the order of its metadata."
            )
        check_count(first.shape[0], limit)
        return read_rows(served, names, _rows_of(first, len(names)))
    for tensor in read:
        if tensor.shape[1:] not in ((), (1,)) or tensor.shape[0] != first.shape[0]:
            raise bad_request(
                f"Input {tensor.name[:_SHOWN]!r} has the shape {list(tensor.shape)}; send one "
                "tensor of rows and columns, or one of [rows] or [rows, 1] for each column."
            )
    check_count(first.shape[0], limit)
    # The one tensor of a model that reads one column may have any name, as one of many may.
    given = names if len(read) == len(names) == 1 else [tensor.name for tensor in read]
    return read_rows(served, given, zip(*(tensor.values for tensor in read), strict=True))


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One input: as many `values` as its `shape` says, in the order of rows."""

    name: str
    shape: tuple[int, ...]
    values: list[Any]


def _read_tensor(tensor: Any, position: int) -> _Tensor:
    """One input, with the values that its datatype makes of the data."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise bad_request(f"Input {position} must be an object with a name.")
    name = tensor["name"][:_SHOWN]
    shape, datatype, data = (tensor.get(key) for key in ("shape", "datatype", "data"))
    if data is None:
        raise bad_request(
            f"Input {name!r} has no data; tensors in binary or shared memory are not supported."
        )
    if (
        not isinstance(shape, list)
        or len(shape) not in (1, 2)
        or any(type(size) is not int or not 0 <= size <= _LONGEST for size in shape)
    ):
        raise bad_request(f"The shape of input {name!r} must be [rows] or [rows, columns].")
    if not isinstance(data, list):
        raise bad_request(f"The data of input {name!r} must be a list.")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise bad_request(f"The datatype of input {name!r} must be one of {', '.join(DATATYPES)}.")
    values = _flat(name, shape, data)
    if len(values) != math.prod(shape):
        raise bad_request(
            f"Input {name!r} has {len(values)} values, and its shape says {math.prod(shape)}."
        )
    return _Tensor(tensor["name"], tuple(shape), _typed(name, datatype, values))


def _flat(name: str, shape: Sequence[int], data: list[Any]) -> list[Any]:
    """The data in the order of rows; it may come flat or as a list of rows."""
    if not data or not isinstance(data[0], list):
        return data
    values: list[Any] = []
    for row in data:
        if len(shape) != 2 or not isinstance(row, list) or len(row) != shape[1]:  # noqa: PLR2004
            raise bad_request(f"The data of input {name!r} is not nested as its shape says.")
        values += row
    return values


def _typed(name: str, datatype: str, values: list[Any]) -> list[Any]:
    """Values as their datatype has them: an FP32 is the nearest single float. Null is missing."""
    whole = INTEGERS.get(datatype)
    kinds: tuple[type, ...] = (int, float, type(None))
    if datatype == "BOOL":
        kinds = (bool, type(None))
    elif whole is not None:
        kinds = (int, type(None))
    for index, value in enumerate(values):
        if type(value) not in kinds or (whole and value is not None and value not in whole):
            raise bad_request(f"Value {index} of input {name!r} is no {datatype}.")
    if datatype in ("FP16", "FP32"):
        return _rounded(name, datatype, values)
    return values


def _rounded(name: str, datatype: str, values: list[Any]) -> list[Any]:
    """The nearest number that the datatype has, a thousand at a time."""
    found: list[Any] = []
    for start in range(0, len(values), 1000):
        part = [math.nan if value is None else value for value in values[start : start + 1000]]
        try:
            with np.errstate(over="ignore"):  # it becomes infinite, which the row model refuses
                found += np.array(part, dtype=np.float64).astype(FLOATS[datatype]).tolist()
        except OverflowError:
            raise bad_request(f"A value of input {name!r} is no {datatype}.") from None
    return found


def _rows_of(tensor: _Tensor, width: int) -> Iterator[list[Any]]:
    values = tensor.values
    return (values[start : start + width] for start in range(0, len(values), width))


def _wanted(outputs: Any) -> tuple[str, ...]:
    """Names of the outputs that a request asks for; without any, all."""
    if not outputs and isinstance(outputs, list | None):
        return tuple(_OUTPUTS)
    if not isinstance(outputs, list):
        raise bad_request("outputs must be a list of objects with a name.")
    wanted = []
    for output in outputs:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in _OUTPUTS:
            raise bad_request(f"outputs may name {', '.join(_OUTPUTS)}.")
        parameters = output.get("parameters")
        if isinstance(parameters, dict) and parameters.get("classification"):
            raise bad_request(f"Output {name!r} has no classification; ask for probability.")
        wanted.append(name)
    return tuple(dict.fromkeys(wanted))


def _datatype(served: Served, name: str) -> str:
    if name == "probability":
        return "FP64"
    label = served.model.card.classes[0]
    if name == "prediction_id" or isinstance(label, str):
        return "BYTES"
    return "BOOL" if isinstance(label, bool) else "INT64"
