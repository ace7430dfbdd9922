"""Names of the service, web pages of others, the headers of every answer, HTTPS, open addresses.

Taken out, each protection makes a test here fail: `Hosts` in `Application.__call__`,
`refuse_other_sites`, `server.HEADERS`, `NO_STORE`, the policy in `docs.py`, `tls.context`.
"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs
from wire import connected, listening

from monitorkit.errors import ConfigError
from monitorkit.serving import hosts, server, tls
from monitorkit.serving.application import Application
from monitorkit.serving.services import Services
from monitorkit.settings import Serving

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
KEYS = [{"name": "a", "environment": "SOME_KEY", "scopes": ["predict", "read"]}]
KEY = "k" * 40

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested here
OURS = ["localhost", "LOCALHOST.", "x.localhost:1", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000",
        "192.168.1.7:80", "[fe80::1]"]  # fmt: skip
THEIRS = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost",
          "localhost:80:80", "localhost evil", "[::1", "::1", "", "xlocalhost"]  # fmt: skip


# -- names


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/health", "/docs", "/nowhere"])
async def test_a_page_that_gives_its_name_our_address_is_not_answered(
    services: Services, client: httpx.AsyncClient, row: dict[str, Any], path: str
) -> None:
    for name in ("evil.example", "evil.example:8000"):
        method = "POST" if path.startswith("/predict") else "GET"
        answer = await client.request(method, path, json=row, headers={"Host": name})
        assert answer.status_code == 421
        assert answer.json()["type"] == "urn:monitorkit:problem:unknown-host"
        assert "[serving] allowed_hosts" in answer.json()["detail"]
        assert repr(name) in answer.json()["detail"]
    assert services.writer.rows == 0


@pytest.mark.parametrize(
    ("serving", "ours", "theirs"),
    [
        ({}, OURS, THEIRS),
        ({"host": "::1"}, OURS, THEIRS),
        ({"host": "localhost"}, OURS, THEIRS),
        ({"host": "Localhost"}, OURS, THEIRS),
        ({"host": "127.1"}, [*OURS, "127.1:8000"], THEIRS),
        ({"host": EVERYWHERE}, [*OURS, *THEIRS], []),
        ({"host": "model.internal"}, [*OURS, *THEIRS], []),
        ({"keys": KEYS}, [*OURS, *THEIRS], []),
        ({"allowed_hosts": ["*"]}, [*OURS, *THEIRS], []),
        (
            {"host": EVERYWHERE, "allowed_hosts": ["api.example", "*.inner.example"], "keys": KEYS},
            [*OURS, "API.example:443", "a.inner.example", "a.b.inner.example"],
            [*THEIRS, "inner.example", "x.api.example", "api.example.evil"],
        ),
    ],
)
def test_which_names_are_taken(serving: dict[str, Any], ours: list[str], theirs: list[str]) -> None:
    known = hosts.of(Serving.model_validate(serving))

    def take(name: str) -> bool:
        return known is None or known.take({"headers": [(b"host", name.encode())]})

    for _ in range(2):  # the second time from memory
        assert [name for name in ours if not take(name)] == []
        assert [name for name in theirs if take(name)] == []
    assert known is None or known.take({"headers": []}), "no browser leaves Host out"


def test_names_are_remembered_up_to_a_number() -> None:
    known = hosts.Hosts(["*.example"])
    for number in range(3 * hosts.REMEMBERED):
        assert known.take({"headers": [(b"host", b"%d.example" % number)]})
    assert len(known._taken) == hosts.REMEMBERED


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "a b", "*.*", "a*", "", "."])
def test_what_is_no_name_is_an_error_in_the_configuration(name: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        Serving(allowed_hosts=(name,))


# -- pages of others


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/monitoring/run"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "localhost"},
    ],
)
async def test_a_page_of_another_site_can_send_nothing(
    services: Services,
    client: httpx.AsyncClient,
    row: dict[str, Any],
    path: str,
    headers: dict[str, str],
) -> None:
    # A Blob without a type is sent without Content-Type, and the browser asks nobody before.
    answer = await client.post(path, content=httpx.Response(200, json=row).content, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:monitorkit:problem:other-site"
    assert services.writer.rows == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://LOCALHOST"},
        {},
    ],
)
async def test_a_page_of_our_own_can(
    client: httpx.AsyncClient, row: dict[str, Any], headers: dict[str, str]
) -> None:
    assert (await client.post("/predict", json=row, headers=headers)).status_code == 200


async def test_no_page_of_others_may_read_answers(
    client: httpx.AsyncClient, row: dict[str, Any]
) -> None:
    theirs = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        await client.get("/health", headers=theirs),
        await client.options("/predict", headers=theirs),
        await client.post("/predict", json=row),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


# -- headers


async def test_every_answer_says_what_browsers_must_not_do(
    serve: Serve, row: dict[str, Any]
) -> None:
    paths = ["/", "/health", "/ready", "/model/info", "/metrics", "/monitoring/stats",
             "/monitoring/results", "/openapi.json", "/docs", "/docs/start.js",
             "/docs/swagger-ui.css", "/nowhere"]  # fmt: skip
    async with serve() as (services, _), listening(services) as (port, _):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answers = [await client.get(path) for path in paths]
            answers += [
                await client.post(path, content=body)
                for path, body in (("/predict", "{"), ("/monitoring/run", "{}"), ("/health", ""))
            ]
            answers.append(await client.post("/predict", json=row))
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff", answer.url
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers
            kept = answer.headers.get("cache-control")
            if answer.url.path.startswith("/docs/"):
                assert kept == "public, max-age=86400" or answer.url.path.endswith("start.js")
            elif answer.request.method == "GET" and answer.url.path != "/docs":
                assert kept == "no-store", answer.url
            html = answer.headers["content-type"].startswith("text/html")
            assert html == (answer.url.path == "/docs")
            if html:
                policy = answer.headers["content-security-policy"]
                assert policy.startswith("default-src 'none'; script-src 'self'; ")
                assert "frame-ancestors 'none'" in policy
        async with connected(port) as connection:
            await connection.send(b"garbage\r\n\r\n")
            refused = await connection.answer()
        assert refused.status == 400
        assert refused.headers["x-content-type-options"] == "nosniff"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_the_documentation_works_in_a_browser_under_its_policy(
    serve: Serve, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    async with serve() as (services, _), listening(services) as (port, _):
        done = await anyio.run_process(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                f"--user-data-dir={tmp_path}", "--no-first-run", "--enable-logging=stderr",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
                "--virtual-time-budget=8000", "--dump-dom", f"http://localhost:{port}/docs",
            ],
            check=False,
        )  # fmt: skip
    page, said = done.stdout.decode(), done.stderr.decode()
    assert "Predict one row" in page
    assert "/monitoring/results/{run_id}" in page.replace("\u200b", "")
    console = [line for line in said.splitlines() if "CONSOLE" in line]
    assert console == [], "the policy forbids nothing that the page needs"


# -- HTTPS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key."""
    certificate = authority.issue_cert("127.0.0.1")
    chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
    (tmp_path / "certificate.pem").write_bytes(chain)
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    return str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")


async def test_https_with_a_certificate(
    serve: Serve, row: dict[str, Any], files: tuple[str, str], authority: trustme.CA
) -> None:
    serving = {"tls_certificate": files[0], "tls_key": files[1]}
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serve(serving) as (services, _):
        tls.context(services.config.serving)
        with capture_logs() as events:
            async with listening(services) as (port, _):
                url = f"https://127.0.0.1:{port}"
                async with httpx.AsyncClient(base_url=url, verify=trusting) as client:
                    for _ in range(3):
                        assert (await client.post("/predict", json=row)).status_code == 200
                async with httpx.AsyncClient(base_url=url) as distrusting:
                    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                        await distrusting.get("/health")
                async with connected(port) as plain:
                    await plain.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert not (await plain.rest()).startswith(b"HTTP/")
        assert services.writer.rows == 3
    assert [event["url"] for event in events if event["event"] == "listening"] == [url]


@pytest.mark.parametrize("fault", ["no file", "no certificate", "another key", "encrypted key"])
def test_files_that_are_no_certificate_and_key_end_the_start(
    files: tuple[str, str], fault: str, authority: trustme.CA
) -> None:
    certificate, key = map(Path, files)
    match fault:
        case "no file":
            certificate.unlink()
        case "no certificate":
            certificate.write_text("hunter2")
        case "another key":
            authority.issue_cert("other.example").private_key_pem.write_to_path(key)
        case _:
            private = serialization.load_pem_private_key(key.read_bytes(), password=None)
            key.write_bytes(
                private.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(b"hunter2"),
                )
            )
    with pytest.raises(ConfigError) as caught:
        tls.context(Serving(tls_certificate=files[0], tls_key=files[1]))
    assert files[0] in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("one", ["tls_certificate", "tls_key"])
def test_one_of_the_two_files_is_an_error(one: str) -> None:
    with pytest.raises(ValueError, match="both `tls_certificate` and `tls_key`"):
        Serving.model_validate({one: "some.pem"})


# -- open addresses


@pytest.mark.parametrize(
    ("serving", "levels"),
    [
        ({"host": "127.0.0.1"}, ["info"]),
        ({"host": EVERYWHERE}, ["info", "warning"]),
        ({"host": EVERYWHERE, "keys": KEYS}, ["info"]),
    ],
)
async def test_an_address_that_is_open_to_everybody_is_one_warning_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, serving: dict[str, Any], levels: list[str]
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    settings = Serving.model_validate(serving | {"port": 0})
    starting = server.Server(Application(settings), settings)
    starting.should_exit = True  # and stop at once
    with capture_logs() as events, server.bind(settings) as listener:
        await starting.serve(sockets=[listener])
    assert [event["log_level"] for event in events] == levels
    if "warning" in levels:
        assert events[1]["event"] == "open_to_the_network"
        assert "[[serving.keys]]" in events[1]["remedy"]
        assert events[1]["url"].startswith("http://0.0.0.0:")
