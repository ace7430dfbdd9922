"""The Dockerfile and compose.yaml as their tests read them: what is built, started and asked."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Step:
    """One instruction: `COPY --from=build /a /b` has the flag `from` and the words `/a`, `/b`."""

    name: str
    text: str
    flags: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Health:
    """A health check; all times in seconds."""

    command: list[str]
    interval: float
    timeout: float
    start_period: float
    retries: int

    @property
    def patience(self) -> float:
        """After which a container that never answered is unhealthy."""
        return self.start_period + self.retries * (self.interval + self.timeout)


@dataclass
class Settings:
    """What an image says about how it is started."""

    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: Health | None = None


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile; ARGs stand for their defaults."""
    arguments: dict[str, str] = {}
    found: list[tuple[str, str, list[Step]]] = []
    for name, flags, rest in _instructions(text):
        if name == "ARG" and not found:
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            base, _, alias = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], rest).partition(
                " AS "
            )
            found.append((base, alias or str(len(found)), []))
        else:
            found[-1][2].append(Step(name, rest, flags))
    return [Stage(base, alias, tuple(steps)) for base, alias, steps in found]


def apply(settings: Settings, step: Step) -> None:
    """Note what a step says about the start; RUN and COPY say nothing about it."""
    match step.name:
        case "ENV":
            for key, _, value in (word.partition("=") for word in step.words):
                settings.env[key] = value
        case "WORKDIR":
            settings.folder = step.text
        case "USER":
            settings.user = step.text
        case "ENTRYPOINT":
            settings.entrypoint = step.words
        case "CMD":
            settings.command = step.words
        case "HEALTHCHECK":
            times = {key: seconds(step.flags[key]) for key in ("interval", "timeout")}
            settings.health = Health(
                json.loads(step.text.removeprefix("CMD ")),
                **times,
                start_period=seconds(step.flags["start-period"]),
                retries=int(step.flags["retries"]),
            )
        case "RUN" | "COPY" | "EXPOSE":
            pass
        case other:
            raise AssertionError(f"{other}: the tests do not know this instruction")


def compose() -> dict[str, Any]:
    """compose.yaml, anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def in_order(services: Mapping[str, Any]) -> list[str]:
    """Services, those that others wait for first."""
    done: list[str] = []

    def add(name: str) -> None:
        for other in services[name].get("depends_on", {}):
            add(other)
        if name not in done:
            done.append(name)

    for name in services:
        add(name)
    return done


def health_of(service: Mapping[str, Any]) -> Health:
    """The health check of a service in compose.yaml."""
    check = service["healthcheck"]
    kind, *command = check["test"]
    assert kind == "CMD"
    times = {key: seconds(check[key]) for key in ("interval", "timeout", "start_period")}
    return Health([str(word) for word in command], **times, retries=check["retries"])


def seconds(text: str) -> float:
    """`90s`, `5m`."""
    return float(text[:-1]) * UNITS[text[-1]]


def _instructions(text: str) -> Iterator[tuple[str, dict[str, str], str]]:
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(kept)).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        flags: dict[str, str] = {}
        while match := re.match(r"--([\w-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        yield name, flags, rest.strip()
