"""Any name becomes one that MLflow takes, and no two become the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from monitorkit.metric_names import metric_key


def test_names_that_mlflow_takes_stay_as_they_are() -> None:
    assert metric_key("feature-drift/ks.NumberOfTime30-59Days") == (
        "feature-drift/ks.NumberOfTime30-59Days"
    )
    assert len(metric_key("x" * 1000)) == 250


@given(st.lists(st.text(), unique=True, min_size=2, max_size=2))
def test_names_stay_apart_and_are_taken(names: list[str]) -> None:
    keys = [metric_key(name) for name in names]
    assert keys[0] != keys[1]
    for key in keys:
        _validate_metric_name(key)  # type: ignore[no-untyped-call] # theirs
