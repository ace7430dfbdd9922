"""Passwords in addresses: whatever SQLAlchemy and MLflow take for one is left out, and no more."""

from __future__ import annotations

import time

import pytest
from sqlalchemy.engine import make_url

from monitorkit.redaction import redacted


@pytest.mark.parametrize(
    "password", ["a#b", "a/b", "a?b", "a b", "a<b>c", "a\\b", "ä/ö", "p8/b", ":/?#"]
)
@pytest.mark.parametrize("user", ["me", "me@server", ""])
def test_what_sqlalchemy_takes_for_a_password_is_left_out(user: str, password: str) -> None:
    address = f"postgresql+psycopg://{user}:{password}@db.example:5432/mlflow"
    assert make_url(address).password == password
    for text in (address, f"no answer from {address}, see me@example.com", f"'{address}'"):
        shown = redacted(text)
        assert "***@db.example:5432/mlflow" in shown
        assert password not in shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host/path@x",
        "http://host:80/ and me@example.com",
        "http://host:80, http://other:81; ask me@example.com",
        "https://host: timed out; ask me@example.com",
        "http://[::1]:5000/a@b",
        "sqlite:////a/b:c@d.db",
        "models:/credit-risk-model@production",
        "http://***@host:5000/x?y=a@b",
    ],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a:80/x http://b@c", "http://a:80/x http://***@c"),
        ("http://a:80/x?http://b:p#w@c", "http://a:80/x?http://***@c"),
        ("s3://a:p/w@b,s3://c:p?w@d", "s3://***@b,s3://***@d"),
        ("http://me@host:5000/x?y=a@b", "http://***@host:5000/x?y=a@b"),
        ("http://me:80/a@b", "http://***@b"),  # a password, or a port
        ("a://b:c\nd@e", "a://b:c\nd@e"),
    ],
)
def test_each_address_is_told_by_itself(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize("part", ["://", "://a:", "://a:b ", "a@", "://a@b:", "/:"])
def test_long_texts_take_no_long_time(part: str) -> None:
    started = time.process_time()
    redacted("http://a:" + part * 100_000)
    assert time.process_time() - started < 5
