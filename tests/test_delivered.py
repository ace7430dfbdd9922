"""What each sink took and where it can be looked at: small, and true for every result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from monitorkit import delivered
from monitorkit.delivered import MOST_LINKS, Delivered

LINKS = st.none() | st.sampled_from(["https://a.example/1", "https://a.example/2"])


@given(st.lists(LINKS, max_size=30), st.integers(0, 30))
def test_every_result_has_the_link_that_its_delivery_gave(
    links: list[str | None], again_from: int
) -> None:
    known = Delivered()
    run_ids = [f"{number:04}" for number in range(len(links))]
    for run_id, link in zip(run_ids, links, strict=True):
        known = known.with_result("mlflow", run_id, link)
    # Somebody deleted the position: some are delivered again, and now come to another place.
    changed = [*links]
    for position in range(again_from, len(links)):
        changed[position] = "https://b.example"
        known = known.with_result("mlflow", run_ids[position], changed[position])
    assert [known.link("mlflow", run_id) for run_id in run_ids] == changed
    assert known.link("mlflow", "9999") is None  # not delivered yet
    assert known.link("other", "0000") is None


def test_results_with_one_link_take_the_place_of_one(tmp_path: Path) -> None:
    known = Delivered()
    for number in range(500):
        known = known.with_result("s", f"{number:05}", "https://a.example")
    delivered.write(tmp_path, known)
    assert (tmp_path / "delivery.json").stat().st_size < 200
    assert delivered.read(tmp_path) == known
    for number in range(500, 600 + MOST_LINKS):
        known = known.with_result("s", f"{number:05}", f"https://a.example/{number}")
    assert len(known.links["s"]) == MOST_LINKS
    assert known.link("s", f"{599 + MOST_LINKS:05}") == f"https://a.example/{599 + MOST_LINKS}"


def test_a_file_of_an_earlier_version_has_no_links(tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text('{"schema_version": 1, "sinks": {"s": "0001"}}')
    known = delivered.read(tmp_path)
    assert (known.positions, known.links) == ({"s": "0001"}, {})


@pytest.mark.parametrize(
    "links", [3, {"s": 3}, {"s": [["a"]]}, {"s": [["a", "b", "c"]]}, {"s": None}], ids=str
)
def test_damaged_links_are_told_of_by_who_delivers_alone(tmp_path: Path, links: object) -> None:
    document = {"schema_version": 1, "sinks": {}, "links": links}
    (tmp_path / "delivery.json").write_text(json.dumps(document))
    with capture_logs() as events:
        assert delivered.read(tmp_path) == Delivered()
        assert delivered.read(tmp_path, quietly=True) == Delivered()
    assert [event["log_level"] for event in events] == ["warning", "debug"]
