"""requirements.lock and deploy/build.lock: by hash, and within what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
BUILT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME, BUILD = PROJECT / "requirements.lock", PROJECT / "deploy" / "build.lock"
LOCKS = pytest.mark.parametrize("path", [RUNTIME, BUILD], ids=lambda path: path.name)

PYTHONS = ["3.11", "3.12", "3.13"]
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "win32": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}


@dataclass(frozen=True)
class Pin:
    """One version of one distribution, where its marker says so."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def pins(path: Path) -> list[Pin]:
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        requirement, *hashes = line.split(" --hash=")
        if requirement.strip():
            found.append(Pin(Requirement(requirement.strip()), tuple(h.strip() for h in hashes)))
    return found


@LOCKS
def test_every_line_is_one_version_with_its_hashes(path: Path) -> None:
    found = pins(path)
    assert found
    for pin in found:
        assert pin.version
        assert pin.requirement.url is None
        assert pin.hashes, pin.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", hash_) for hash_ in pin.hashes)


@LOCKS
def test_it_names_no_address_and_no_option(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert (
        re.findall(r"^\s*-", re.sub(r"^\s+--hash=", "", text, flags=re.MULTILINE), re.MULTILINE)
        == []
    )


def wanted() -> list[Requirement]:
    extras = BUILT["project"]["optional-dependencies"].values()
    return [
        Requirement(line)
        for line in (
            *BUILT["project"]["dependencies"],
            *(line for extra in extras for line in extra),
        )
    ]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_it_holds_what_the_package_asks_for(python: str, system: str) -> None:
    environment = {
        **SYSTEMS[system],
        "python_version": python,
        "python_full_version": f"{python}.5",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }

    def applies(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate(environment)

    there: dict[str, str] = {}
    for pin in pins(RUNTIME):
        if applies(pin.requirement):
            assert pin.name not in there, "two versions at once"
            there[pin.name] = pin.version
    for requirement in filter(applies, wanted()):
        assert requirement.specifier.contains(there[canonicalize_name(requirement.name)])


def test_the_tools_that_build_are_locked_too() -> None:
    needed = [Requirement(line) for line in BUILT["build-system"]["requires"]]
    assert [*map(Requirement, BUILT["dependency-groups"]["build"])] == needed
    there = {pin.name: pin.version for pin in pins(BUILD)}
    for requirement in needed:
        assert requirement.specifier.contains(there[requirement.name])
