"""Names that MLflow takes for metrics."""

from __future__ import annotations

import hashlib
import re

LONGEST = 250


def metric_key(name: str) -> str:
    """The name with what MLflow takes; one that had to change ends in a hash, to stay apart."""
    key = re.sub(r"[^0-9A-Za-z_./ -]", "_", name)
    # MLflow reads a key as a path, which must be its own shortest form.
    key = "/".join(part.strip() for part in key.split("/") if part.strip(" .")) or "_"
    if key == name and len(key) <= LONGEST:
        return key
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{key[: LONGEST - len(digest) - 1]}-{digest}"
