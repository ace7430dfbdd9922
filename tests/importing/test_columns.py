"""`--map OURS=THEIRS`: which side is which, near misses, and names with anything in them."""

from __future__ import annotations

import pytest

from monitorkit.errors import ConfigError, DataError
from monitorkit.importing.columns import Columns
from monitorkit.schema import Feature, FeatureSchema

THEIRS = ("event_time", "score", "age", "a=b", "amount_due")


def columns(*maps: str, theirs: tuple[str, ...] = THEIRS) -> Columns:
    return Columns.of("log.csv", theirs, maps)


def test_columns_are_found_by_their_map_or_by_their_name() -> None:
    found = columns("timestamp=event_time", "probability=score", "amount-due=", "x=a=b")
    assert found.find("timestamp") == "event_time"
    assert found.find("age") == "age"
    assert found.find("amount-due") is None
    assert found.find("x") == "a=b"
    assert columns().find("amount-due") == "amount_due"
    assert columns("a=b=age").find("a=b") == "age"


def test_one_column_is_never_taken_for_two_of_ours() -> None:
    found = columns(theirs=("x_1", "amount_due"))
    assert found.find_all(["x<1", "x>1", "amount-due"]) == {
        "x<1": None,
        "x>1": None,
        "amount-due": "amount_due",
    }
    schemas = [FeatureSchema((Feature("x<1"),)), FeatureSchema((Feature("x>1"),))]
    assert found.unused(schemas) == ["amount_due"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("timestamp=event_tme", "the file has no column 'event_tme'; did you mean 'event_time'"),
        ("timestamp=zzz", "'zzz'; there are: event_time, score, age, a=b, amount_due"),
        ("event_time=timestamp", "ours comes first: write timestamp=event_time"),
        ("timestamp", "'timestamp' is not OURS=THEIRS, such as timestamp=event_time"),
        ("=score", "'=score' is not OURS=THEIRS"),
    ],
)
def test_a_wrong_map_is_told_with_what_was_meant(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        columns(text)
    assert str(error.value).startswith("--map: ")
    assert problem in str(error.value)


def test_all_wrong_maps_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        columns("a=zzz", "b=yyy", "c=age", "c=score")
    assert len(error.value.problems) == 3
    assert "'c' is mapped twice" in str(error.value)


def test_a_feature_that_the_model_does_not_read_is_an_error() -> None:
    schema = FeatureSchema((Feature("age"), Feature("amount-due")))
    columns("age=score", "prediction=").check_features([schema])
    with pytest.raises(ConfigError, match="we have no column 'aeg'; did you mean 'age'"):
        columns("aeg=score").check_features([schema])
    columns("aeg=score").check_features([])  # nothing is known of any model so far


def test_what_is_missing_is_told_with_the_map_to_write() -> None:
    with pytest.raises(DataError) as error:
        columns(theirs=("Time Stamp", "score")).require(("timestamp", "probability"))
    assert str(error.value) == (
        "log.csv: it has no columns 'timestamp', 'probability'. Say which they are: "
        "--map 'timestamp=Time Stamp' --map probability=THEIRS. The file has: Time Stamp, score."
    )


@pytest.mark.parametrize("name", ["timestamp", "probability"])
def test_time_and_probability_cannot_be_left_out(name: str) -> None:
    with pytest.raises(DataError, match=f"no column '{name}'"):
        columns(f"{name}=").require((name,))
