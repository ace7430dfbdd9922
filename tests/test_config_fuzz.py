"""Configuration files that hypothesis makes up: read, or refused with a ConfigError."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from monitorkit import config
from monitorkit.errors import ConfigError

DEFAULT = config.default_text()
TABLE = tomllib.loads(DEFAULT)

values = st.recursive(
    st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["", "-1s", "1e9d", "9" * 30 + "s", "99999999TiB", "*", "..", "\0"])
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "use", "scopes", "sha256", "x"]), inner)
    ),
    max_leaves=5,
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """The default file with some keys that hold something else, or with a part of it replaced."""
    if draw(st.booleans()):
        table: dict[str, Any] = {
            name: dict(part) if isinstance(part, dict) else part for name, part in TABLE.items()
        }
        for _ in range(draw(st.integers(1, 3))):
            section = draw(st.sampled_from(sorted(table)))
            part = table[section]
            if isinstance(part, dict) and part and draw(st.booleans()):
                part[draw(st.sampled_from(sorted(part)))] = draw(values)
            else:
                table[section] = draw(values)
        return tomli_w.dumps(table).encode()
    start = draw(st.integers(0, len(DEFAULT)))
    end = min(len(DEFAULT), start + draw(st.integers(0, 40)))
    middle = draw(st.binary(max_size=30) | st.just(b"\xff\xfe\x00"))
    return DEFAULT[:start].encode() + middle + DEFAULT[end:].encode()


@pytest.mark.slow
def test_any_file_is_read_or_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in list(os.environ):
        if variable.upper().startswith("MONITORKIT_"):
            monkeypatch.delenv(variable)
    path = tmp_path / "some.toml"
    found = {"read": 0, "refused": 0}
    said: list[str] = []

    @seed(20260101)
    @settings(
        max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(files())
    def each(content: bytes) -> None:
        path.write_bytes(content)
        try:
            settings_ = config.load(path)
        except ConfigError as error:
            found["refused"] += 1
            said.append(str(error))
        else:
            found["read"] += 1
            path.write_text(config.to_toml(settings_), encoding="utf-8")
            assert config.load(path) == settings_

    each()
    assert [text for text in said if not text.startswith(f"{path}: ")] == []
    assert min(found.values()) > 20, found
