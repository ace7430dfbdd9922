"""Errors: the tree is as drawn, each one pickles, and each says what to do."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import fields

import pytest

from monitorkit import errors
from monitorkit.errors import (
    AddressInUse,
    ConfigError,
    DataError,
    MonitorkitError,
    ReferenceChanged,
)
from monitorkit.serving import server
from monitorkit.settings import Serving

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, MonitorkitError)
]
LEAVES = [cls for cls in CLASSES if not cls.__subclasses__()]

VALUES = {
    "str": "the value of {name}",
    "int": 7,
    "float": 2.5,
    "tuple[str, ...]": ("first problem", "second problem"),
    "int | None": 3,
    "str | None": "column x",
    "dict[str, int]": {"503": 2},
    "Mapping[str, int]": {"503": 2},
}


def example(cls: type[MonitorkitError]) -> MonitorkitError:
    """An error with a value of the right type in every field."""
    values = []
    for field in fields(cls):
        value = VALUES[str(field.type)]
        values.append(value.format(name=field.name) if isinstance(value, str) else value)
    return cls(*values)


def drawn() -> dict[str, str | None]:
    """Each class in the docstring's tree, and the one that it hangs on."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        if not line.startswith(("│", "├", "└", "MonitorkitError")):
            continue
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else None
    return parents


def test_the_tree_is_as_drawn() -> None:
    real: dict[str, str | None] = {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}
    real["MonitorkitError"] = None
    assert drawn() == real


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_pickles_with_its_data(cls: type[MonitorkitError]) -> None:
    error = example(cls)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is cls
    assert [getattr(copy, field.name) for field in fields(cls)] == [
        getattr(error, field.name) for field in fields(cls)
    ]
    assert str(copy) == str(error)


@pytest.mark.parametrize("cls", LEAVES)
def test_the_message_tells_all_the_data_in_one_line(cls: type[MonitorkitError]) -> None:
    error = example(cls)
    message = str(error)
    assert message == error.message()
    assert "\n" not in message
    for field in fields(cls):
        value = getattr(error, field.name)
        parts = (
            value
            if isinstance(value, tuple)
            else value.keys()
            if isinstance(value, dict)
            else [value]
        )
        assert all(str(part) in message for part in parts), field.name


@pytest.mark.parametrize("cls", LEAVES)
def test_whoever_raises_it_or_the_message_itself_gives_a_remedy(
    cls: type[MonitorkitError],
) -> None:
    """A field for it, or a sentence of its own; the rest say only what happened."""
    says_only_what_happened = {"ConfigError", "PluginError", "WorkerTimeout", "WorkerDied"}
    if cls.__name__ in says_only_what_happened:
        return
    remedies = {field.name for field in fields(cls)} & {"remedy"}
    sentences = [part for part in str(example(cls)).split(". ") if part]
    assert remedies or len(sentences) > 1, str(example(cls))


@pytest.mark.parametrize("host", ["nohost.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_mended_with_another_host(host: str) -> None:
    with pytest.raises(AddressInUse, match=f"{host}:0 cannot be used: .*--host") as caught:
        server.bind(Serving(host=host, port=0))
    assert "--port" not in str(caught.value)


def test_a_port_that_is_taken_is_mended_with_another_port() -> None:
    with server.bind(Serving(port=0)) as listener:
        listener.listen()
        with pytest.raises(AddressInUse, match=r"cannot be used: .*--port") as caught:
            server.bind(Serving(port=listener.getsockname()[1]))
    assert "--host" not in str(caught.value)


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert str(DataError("a.csv", "no rows", "Add some.")) == "a.csv: no rows. Add some."
    placed = DataError("a.csv", "not a number", "Correct it.", line=3, column="age")
    assert str(placed) == "a.csv, line 3, column 'age': not a number. Correct it."


def test_every_problem_of_a_configuration_is_told() -> None:
    assert str(ConfigError("x.toml", ("one", "two"))) == "x.toml: one; two"


def test_a_changed_reference_tells_both_hashes() -> None:
    message = str(ReferenceChanged("data.csv", "aaa", "bbb"))
    assert "expected SHA-256 aaa, found bbb" in message
