"""The hooks: markers and specs, no logic. Hooks register classes; they do not do the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from monitorkit.contracts import Monitor, Sink

hookspec = pluggy.HookspecMarker("monitorkit")
hookimpl = pluggy.HookimplMarker("monitorkit")


@hookspec
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:  # type: ignore[empty-body] # a spec
    """Return monitor classes by kind; `use = "kind"` in TOML picks one."""


@hookspec
def monitorkit_sinks() -> Mapping[str, type[Sink[Any]]]:  # type: ignore[empty-body] # a spec
    """Return sink classes by kind; `use = "kind"` in TOML picks one."""
