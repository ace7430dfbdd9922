"""The image, built once for those that start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_recipe import PROJECT, stages
from image_root import Root, build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """What the Dockerfile makes: some minutes."""
    if "MONITORKIT_TEST_CONTAINER" not in os.environ:
        pytest.skip("`tox -e container` runs it")
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs Linux and root")
    recipe = stages((PROJECT / "Dockerfile").read_text(encoding="utf-8"))
    return build(recipe, tmp_path_factory.mktemp("images"), _python(recipe[-1].base))


def _python(base: str) -> Path:
    """The prefix of a Python of the base image's version, or of the one that runs the tests."""
    version = base.removeprefix("python:").removesuffix("-slim")
    command = shutil.which(f"python{version}")
    if command is not None:
        told = subprocess.run(
            [command, "-c", "import sys; print(sys.base_prefix)"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYENV_VERSION": version},
            check=False,
        )
        if told.returncode == 0:
            return Path(told.stdout.strip())
    return Path(sys.base_prefix)
