"""Who may do what: a request's API key against the scope that its endpoint needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hmac import compare_digest

from starlette.types import ASGIApp, Receive, Scope, Send

from monitorkit.keys import Key, digest
from monitorkit.serving import problems
from monitorkit.serving.problems import Problem
from monitorkit.settings import KeyScope

REALM = 'Bearer realm="monitorkit"'


SCOPES: Mapping[str, tuple[KeyScope, ...]] = {
    "/predict": ("predict",),
    "/predict/batch": ("predict",),
    "/invocations": ("predict",),
    "/v2/models/{model}/infer": ("predict",),
    "/v2/models/{model}/versions/{version}/infer": ("predict",),
    # Clients of the protocols ask for these before they predict.
    **dict.fromkeys(
        (
            "/version",
            "/v2",
            "/v2/",
            "/v2/models/{model}",
            "/v2/models/{model}/ready",
            "/v2/models/{model}/versions/{version}",
            "/v2/models/{model}/versions/{version}/ready",
        ),
        ("predict", "read"),
    ),
    "/monitoring/run": ("operate",),
    # Orchestrators and load balancers have no keys.
    **dict.fromkeys(("/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready"), ()),
    # A browser sends no key until a page asks for one; without it the dashboard is a shell without
    # data, and `/` leads there (others it tells what /health tells them, too).
    **dict.fromkeys(("/", "/dashboard", "/dashboard/static/{file}"), ()),
}
"""What a key must be allowed on a route, by its path: one of these. Any other needs `read`."""


def needed(path: str) -> tuple[KeyScope, ...]:
    """The scopes of which a route needs one; none: it is open to everybody."""
    return SCOPES.get(path, ("read",))


class Guard:
    """Lets requests through that carry a key with the scope, and answers the others.

    Args:
        app: the endpoint.
        keys: that are known.
        needs: the scopes of which one is enough.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[Key], needs: Sequence[KeyScope]) -> None:
        self._app = app
        self._keys = keys
        self._needs = needs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            key = bearer(scope, self._keys)
            scope["monitorkit.key"] = key.name
            if not any(scope in key.scopes for scope in self._needs):
                raise not_allowed(key, self._needs)
        except Problem as problem:
            await problems.response(problem, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def bearer(scope: Scope, keys: Sequence[Key]) -> Key:
    """The key that a request carries.

    Every known key is compared, each in constant time, so that nobody learns from how long it takes
    which one theirs is like.

    Raises:
        Problem: 401.
    """
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        raise no_key("is missing" if not given else "is given more than once")
    scheme, _, token = given[0].partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise no_key("is not `Bearer KEY`")
    found = None
    sought = digest(token.strip())
    for key in keys:
        if compare_digest(key.digest, sought):
            found = key
    if found is None:
        raise no_key("holds no key that is known here", ', error="invalid_token"')
    return found


def no_key(reason: str, more: str = "") -> Problem:
    """401."""
    return Problem(
        "unauthorized",
        f"The Authorization header {reason}. Send `Authorization: Bearer KEY` with a key of "
        "[[serving.keys]] (`monitorkit new-key` makes one).",
        headers={"WWW-Authenticate": REALM + more},
    )


def not_allowed(key: Key, needs: Sequence[KeyScope]) -> Problem:
    """403, naming the scopes."""
    return Problem(
        "forbidden",
        f"This needs the scope {' or '.join(f'`{scope}`' for scope in needs)}, and the key "
        f"{key.name!r} has "
        f"{', '.join(f'`{scope}`' for scope in sorted(key.scopes))}. Use another key, or add the "
        "scope to its [[serving.keys]].",
        headers={
            "WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{" ".join(needs)}"'
        },
    )
