"""The plugin authors' API: complete, sorted, and light."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import monitorkit


def test_all_is_sorted_and_complete() -> None:
    public = {
        name
        for name, value in vars(monitorkit).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    } - {"TYPE_CHECKING", "Any"}
    public |= {"compare"}  # lazy
    assert set(monitorkit.__all__) == public
    # As ruff sorts: constants, classes, functions.
    kinds = [0 if n.isupper() else 1 if n[0].isupper() else 2 for n in monitorkit.__all__]
    assert monitorkit.__all__ == [
        name for _, name in sorted(zip(kinds, monitorkit.__all__, strict=True))
    ]


def test_everything_that_design_promises_is_there() -> None:
    promised = {"hookimpl", "Monitor", "Sink", "Options", "Chunk", "Timeline", "Finding"}
    assert promised | {"RunResult", "Judgement"} <= set(monitorkit.__all__)


def test_every_class_is_documented() -> None:
    for name in monitorkit.__all__:
        if name[0].isupper() and not name.isupper():
            assert getattr(monitorkit, name).__doc__, name


def test_compare_is_there_when_it_is_asked_for() -> None:
    assert callable(monitorkit.compare)
    assert monitorkit.compare.__doc__
    assert not hasattr(monitorkit, "compere")


def test_importing_it_is_light() -> None:
    heavy = "{'mlflow', 'evidently', 'pandas', 'scipy', 'sklearn', 'narwhals'}"
    code = f"import sys, monitorkit; print(*{heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
