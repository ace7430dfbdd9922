"""API keys: who gets in where, what the others are told, and that no key is told to anybody.

Taken out, each protection makes a test here fail: the `Guard` in `Application.add`, `needed`, the
`raise` in `bearer`, the hidden input in `config._problems`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import tomllib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from openapi_spec_validator import OpenAPIV31SpecValidator
from structlog.testing import capture_logs

from monitorkit import config, keys
from monitorkit.cli import main
from monitorkit.cli.commands import REFUSED
from monitorkit.config import Config
from monitorkit.errors import ConfigError
from monitorkit.serving import guard
from monitorkit.serving.guard import SCOPES, needed
from monitorkit.serving.routes import routes
from monitorkit.serving.services import Services
from monitorkit.settings import KeyEntry

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]

KEYS = {scope: f"mk_{scope}-{'0123456789' * 4}" for scope in ("predict", "read", "operate")}
ENTRIES = [
    {"name": f"the-{scope}", "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": [scope]}
    for scope, key in KEYS.items()
]
OPEN = {"/", "/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready"}
OF_PROTOCOLS = {path for path in SCOPES if path.startswith(("/v2", "/invocations", "/version"))}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def calls(services: Services) -> list[tuple[str, str]]:
    """Every route with one of its methods."""
    return [(min(set(route.methods or ()) - {"HEAD"}), route.path) for route in routes(services)]


def spelled(path: str) -> str:
    """A path that a route takes."""
    return path.replace("{", "").replace("}", "")


async def test_every_route_needs_a_key_but_those_of_orchestrators(
    serve: Serve, row: dict[str, Any]
) -> None:
    async with serve({"keys": ENTRIES}) as (services, client):
        for method, path in calls(services):
            body = row if method == "POST" else None
            answer = await client.request(method, spelled(path), json=body)
            if path in OPEN:
                assert answer.status_code == 200
                continue
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == 'Bearer realm="monitorkit"'
            assert "is missing" in answer.text
            if path not in OF_PROTOCOLS:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["type"] == "urn:monitorkit:problem:unauthorized"
        assert services.writer.rows == 0


async def test_a_browser_without_a_key_is_sent_to_the_page_that_asks_for_one(serve: Serve) -> None:
    async with serve({"keys": ENTRIES}) as (_, client):
        answer = await client.get("/", headers={"Accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (302, "dashboard")
        told, known = (await client.get("/")).json(), (await client.get("/health")).json()
        assert told["model"] == {"name": known["model_name"], "version": known["model_version"]}


async def test_a_key_opens_what_its_scope_says_and_nothing_else(
    serve: Serve, row: dict[str, Any]
) -> None:
    async with serve({"keys": ENTRIES}) as (services, client):
        for method, path in calls(services):
            scopes = needed(path)
            for scope, key in KEYS.items():
                body = None if method == "GET" else [row] if "batch" in path else row
                if path == "/monitoring/run":
                    body = {}
                answer = await client.request(method, spelled(path), json=body, headers=bearer(key))
                if not scopes or scope in scopes:
                    assert answer.status_code in (200, 400, 404), (path, scope)
                    continue
                assert answer.status_code == 403, (path, scope)
                told = f'error="insufficient_scope", scope="{" ".join(scopes)}"'
                assert answer.headers["www-authenticate"] == f'Bearer realm="monitorkit", {told}'
                words = " or ".join(f"`{needs}`" for needs in scopes)
                assert f"needs the scope {words}, and the key 'the-{scope}'" in answer.text
        assert services.writer.rows == 2


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Bearer ",
        "Bearer mk_guessed-0123456789012345678901234567890",
        f"Basic {KEYS['predict']}",
        KEYS["predict"],
        f"Bearer {KEYS['predict']}x",
        f"Bearer {KEYS['predict'][:-1]}",
        f"Bearer {ENTRIES[0]['sha256']}",
        "Bearer \xff",
    ],
)
async def test_what_is_no_known_key_is_a_401_that_does_not_repeat_it(
    serve: Serve, row: dict[str, Any], given: str
) -> None:
    async with serve({"keys": ENTRIES}) as (services, client):
        headers = {b"Authorization": given.encode("latin-1")}
        with capture_logs() as events:
            answer = await client.post("/predict", json=row, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Bearer realm="monitorkit"')
        assert "0123" not in answer.text
        assert events == []
        assert services.writer.rows == 0


async def test_every_key_is_compared_in_constant_time_also_when_one_fits(
    serve: Serve, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []

    def watched(known: bytes, sought: bytes) -> bool:
        compared.append(known)
        return hmac.compare_digest(known, sought)

    monkeypatch.setattr(guard, "compare_digest", watched)
    every = [bytes.fromhex(str(entry["sha256"])) for entry in ENTRIES]
    async with serve({"keys": ENTRIES}) as (_, client):
        for key, status in ((KEYS["predict"], 200), ("mk_" + "x" * 40, 401)):
            compared.clear()
            answer = await client.post("/predict", json=row, headers=bearer(key))
            assert answer.status_code == status
            assert compared == every


async def test_two_headers_are_none(serve: Serve, row: dict[str, Any]) -> None:
    async with serve({"keys": ENTRIES}) as (_, client):
        headers = [("Authorization", f"Bearer {KEYS['read']}")] * 2
        answer = await client.post("/predict", json=row, headers=headers)
        assert answer.status_code == 401
        assert "more than once" in answer.json()["detail"]


@pytest.mark.parametrize("spelling", ["/predict%0A", "/predict%00", "/./predict", "/%70redict"])
async def test_no_spelling_of_a_path_leads_past_the_guard(
    serve: Serve, row: dict[str, Any], spelling: str
) -> None:
    async with serve({"keys": ENTRIES}) as (services, client):
        answer = await client.post(spelling, json=row)
        assert answer.status_code in (401, 404)
        answer = await client.post(spelling, json=row, headers=bearer(KEYS["read"]))
        assert answer.status_code in (403, 404)
        assert services.writer.rows == 0


async def test_the_access_log_names_the_key(serve: Serve, row: dict[str, Any]) -> None:
    async with serve({"keys": ENTRIES, "access_log": True}) as (_, client):
        with capture_logs() as events:
            await client.post("/predict", json=row, headers=bearer(KEYS["predict"]))
            await client.get("/metrics", headers=bearer(KEYS["predict"]))
            await client.get("/metrics", headers=bearer("mk_" + "x" * 40))
    assert [(event["key"], event["status"]) for event in events] == [
        ("the-predict", 200), ("the-predict", 403), (None, 401)
    ]  # fmt: skip
    assert not any(key in repr(events) for key in KEYS.values())


async def test_the_document_says_which_scope_an_operation_needs(serve: Serve) -> None:
    async with serve({"keys": ENTRIES}) as (_, client):
        document = (await client.get("/openapi.json", headers=bearer(KEYS["read"]))).json()
    OpenAPIV31SpecValidator(document).validate()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            scopes = needed(path)
            assert operation["security"] == [{"key": [scope]} for scope in scopes]
            assert ("401" in operation["responses"]) == bool(scopes)


async def test_without_keys_nothing_is_asked_for(
    client: httpx.AsyncClient, row: dict[str, Any]
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
    assert (await client.post("/predict", json=row)).status_code == 200


# -- the configuration


def test_a_new_key_is_long_its_own_and_fits_the_configuration() -> None:
    (first, text), (second, _) = keys.new("a", ["predict", "read"]), keys.new("a", ["read"])
    assert first != second
    assert re.fullmatch(r"mk_[A-Za-z0-9_-]{43}", first)
    assert first not in text
    entry = KeyEntry.model_validate(tomllib.loads(text)["serving"]["keys"][0])
    (key,) = keys.configured([entry])
    assert (key.name, key.digest) == ("a", hashlib.sha256(first.encode()).digest())
    assert sorted(key.scopes) == ["predict", "read"]


@pytest.mark.parametrize(("name", "scope"), [("a b", "read"), ("a", "all"), ("", "read")])
def test_a_new_key_with_a_wrong_name_or_scope_is_none(name: str, scope: str) -> None:
    with pytest.raises(ConfigError, match=r"new-key: --(name|scopes)"):
        keys.new(name, [scope])


def test_a_key_of_the_environment_is_the_same_as_its_hash() -> None:
    entry = KeyEntry(name="a", environment="SOME_KEY", scopes=("read",))
    (key,) = keys.configured([entry], {"SOME_KEY": f" {KEYS['read']}\n"})
    assert key.digest == hashlib.sha256(KEYS["read"].encode()).digest()
    assert "digest" not in repr(key)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("hunter2", "holds 7 characters for 'a'; a key has 32 or more"),
        ("hunter2 " * 8, "without spaces"),
        ("hünter2" * 8, "without spaces"),
    ],
)
def test_a_variable_without_a_key_ends_the_start(value: str | None, words: str) -> None:
    entry = KeyEntry(name="a", environment="SOME_KEY", scopes=("read",))
    with pytest.raises(ConfigError) as caught:
        keys.configured([entry], {} if value is None else {"SOME_KEY": value})
    assert words in str(caught.value)
    assert "SOME_KEY" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_one_key_under_two_names_is_an_error() -> None:
    entries = [KeyEntry(name=n, environment="SOME_KEY", scopes=("read",)) for n in "ab"]
    with pytest.raises(ConfigError, match="'a' and 'b' are the same key"):
        keys.configured(entries, {"SOME_KEY": KEYS["read"]})


PASTED = "mk_hunter2-0123456789012345678901234567890123"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (f'sha256 = "{PASTED}"', "never the key itself"),
        (f'environment = "{PASTED}"', "never the key itself"),
        (f'environment = "{PASTED.replace("-", "_")}"', "a key stands where the name of a var"),
        (f'key = "{PASTED}"', "unknown key `serving.keys.0.key`"),
        ('environment = "MONITORKIT_SERVING__PORT"', "names that begin with MONITORKIT_"),
        ("", "either `sha256` or `environment`"),
        (f'environment = "A"\nsha256 = "{"0" * 64}"', "either `sha256` or `environment`"),
        (f'environment = "A"\nscopes = ["{PASTED}"]', "'predict', 'read' or 'operate'"),
        ('environment = "A"\nscopes = []', "at least 1 item"),
        (f'environment = "A"\nname = "{PASTED} "', "match pattern"),
    ],
)
def test_a_wrong_entry_is_told_without_the_key(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, lines: str, words: str
) -> None:
    for name in list(os.environ):
        if name.upper().startswith("MONITORKIT_"):
            monkeypatch.delenv(name)
    table = {"name": 'name = "a"', "scopes": 'scopes = ["read"]'}
    more = [line for key, line in table.items() if f"{key} =" not in lines]
    path = tmp_path / "some.toml"
    path.write_text("\n".join(["[[serving.keys]]", *more, lines]))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("command", ["config", "run"])
def test_a_key_pasted_as_the_name_of_its_variable_is_printed_by_no_command(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = {"name": "a", "environment": PASTED.replace("-", "_"), "scopes": ["read"]}
    monkeypatch.setenv("MONITORKIT_SERVING__KEYS", json.dumps([entry]))
    done = CliRunner().invoke(main, [command])
    assert done.exit_code == REFUSED
    assert "a key stands where the name of a variable belongs" in done.output
    assert "set by MONITORKIT_SERVING__KEYS" in done.output
    assert "hunter2" not in done.output


def test_a_name_given_twice_is_an_error() -> None:
    entry = {"name": "a", "environment": "A", "scopes": ["read"]}
    with pytest.raises(ValueError, match=r"\[\[serving.keys\]\] holds the name 'a' twice"):
        Config.model_validate({"serving": {"keys": [entry, entry | {"environment": "B"}]}})
