"""A document in a file, with a version and a checksum: a cache that is believed or made anew.

One line of JSON, `schema_version`, `sha256` and `bytes` of the rest; then what `encoding` makes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitorkit import durable, logs
from monitorkit.monitoring import encoding

SCHEMA_VERSION = 1

log = logs.get(__name__)


def save(path: Path, document: Mapping[str, Any]) -> None:
    """Write what `encoding.encode` takes to a file, atomically.

    A crash leaves the old file or the new one. It is a cache, so it is not synced to the disk.

    Raises:
        TypeError, ValueError: as `encoding.encode`.
        OSError: when the file cannot be written.
    """
    body = encoding.encode(document)
    head = {
        "schema_version": SCHEMA_VERSION,
        "sha256": hashlib.sha256(body).hexdigest(),
        "bytes": len(body),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.clear_leftovers(path.parent)
    durable.replace_file(path, json.dumps(head).encode() + b"\n" + body, sync=False)


def load(path: Path) -> dict[str, Any] | None:
    """Read what `save` wrote; None when there is no file, or one that cannot be trusted.

    What is lost with it is time: the log is read again.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head_line, _, body = content.partition(b"\n")
    try:
        head = json.loads(head_line)
        version, digest = head["schema_version"], head["sha256"]
    except (ValueError, TypeError, KeyError):
        log.warning("checkpoint_ignored", file=str(path), reason="it does not begin as it should")
        return None
    if version != SCHEMA_VERSION:
        log.info("checkpoint_ignored", file=str(path), reason=f"schema_version {version!r}")
        return None
    if hashlib.sha256(body).hexdigest() != digest:
        log.warning("checkpoint_ignored", file=str(path), reason="the checksum does not match")
        return None
    return encoding.decode(body)
