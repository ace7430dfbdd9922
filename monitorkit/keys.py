"""API keys: making one, and reading those of the configuration. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from monitorkit.environment import KEY_PREFIX, may_be_key
from monitorkit.errors import ConfigError
from monitorkit.settings import KeyEntry, KeyScope

SHORTEST = 32
"""Characters of a key. The hash has no salt and is fast: it protects what cannot be guessed."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key that the service knows.

    Attributes:
        name: for people and events.
        digest: SHA-256, 32 bytes.
        scopes: what it may do.
    """

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[KeyScope]


def digest(key: str | bytes) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def new(name: str, scopes: Sequence[str]) -> tuple[str, str]:
    """A new key of 256 random bits, and its `[[serving.keys]]` entry.

    Raises:
        ConfigError: of the name or a scope.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    try:
        entry = KeyEntry.model_validate(
            {"name": name, "sha256": digest(key).hex(), "scopes": tuple(scopes)}
        )
    except ValidationError as error:
        wrong = [f"--{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()]
        raise ConfigError("new-key", tuple(wrong)) from None
    allowed = ", ".join(f'"{scope}"' for scope in entry.scopes)
    lines = (f'name = "{entry.name}"', f'sha256 = "{entry.sha256}"', f"scopes = [{allowed}]")
    return key, "\n".join(["[[serving.keys]]", *lines, ""])


def configured(
    entries: Sequence[KeyEntry], variables: Mapping[str, str] = os.environ
) -> tuple[Key, ...]:
    """The keys of the configuration.

    Args:
        entries: `[[serving.keys]]`.
        variables: where keys are that the file only names.

    Raises:
        ConfigError: a variable is not set or holds no key, or a key is there twice. Never says
            what was found.
    """
    keys = tuple(Key(e.name, _digest_of(e, variables), frozenset(e.scopes)) for e in entries)
    for position, key in enumerate(keys):
        for other in keys[:position]:
            if key.digest == other.digest:
                problem = f"{other.name!r} and {key.name!r} are the same key; make another one"
                raise ConfigError("[[serving.keys]]", (problem,))
    return keys


def _digest_of(entry: KeyEntry, variables: Mapping[str, str]) -> bytes:
    if entry.sha256:
        return bytes.fromhex(entry.sha256)
    key = variables.get(entry.environment, "").strip()
    if not key:
        problem = f"is not set, and the key {entry.name!r} of [[serving.keys]] is in it"
    elif not may_be_key(key):
        problem = f"holds no key for {entry.name!r}: letters, digits and signs without spaces"
    elif len(key) < SHORTEST:
        problem = f"holds {len(key)} characters for {entry.name!r}; a key has {SHORTEST} or more"
    else:
        return digest(key)
    raise ConfigError(
        f"environment variable {entry.environment}",
        (f"{problem} (`monitorkit new-key` makes one)",),
    )
