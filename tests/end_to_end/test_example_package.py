"""The example package: installed as anybody's, listed, tested by its own test, used in a cycle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PACKAGE = EXAMPLES / "monitorkit-night-share"

# A cycle on a made-up log, in a process of its own: entry points are found when Python starts.
CYCLE = """
    import json
    import sys

    sys.path[:0] = sys.argv[1:]
    from monitoring_place import SCHEMA, Place, draw, store_model

    from pathlib import Path

    from monitorkit import model, model_store, plugin_manager, reference
    from monitorkit.config import Config
    from monitorkit.monitoring.cycle import run_cycle
    from monitorkit.monitoring.engine import LocalEngine
    from monitorkit.results import Results

    options = {"from_hour": 0, "to_hour": 23, "at_most": 0.5}
    config = Config(
        monitors=[{"name": "night", "use": "night_share", "options": options}],
        monitoring={"verdict": {"monitor": "night"}},
    )
    plugin_manager.checked(config)
    store_model(config, "1")
    reference.freeze(
        config.storage.reference, draw(300, seed=1), SCHEMA, source="test", model_version="1"
    )
    folder = model_store.folder(model_store.address(config), config.storage.models, "1")
    loaded = model.load(folder, config.registry.trust)
    here = Place(Path(), config, Results(config.storage.results), loaded)
    here.append(draw(250, seed=2))
    result = run_cycle(config, LocalEngine(config), here.results, trigger="once")
    (outcome,) = result.outcomes
    (finding,) = outcome.findings
    print(json.dumps([outcome.error, finding.measure, finding.value, finding.threshold]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed into a folder."""
    place = tmp_path_factory.mktemp("example")
    # A copy: building leaves files beside the sources.
    shutil.copytree(PACKAGE, place / "package")
    site = place / "site"
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(site)]
    done = subprocess.run(
        [*command, str(place / "package")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def run(site: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_monitorkit_lists_it_with_its_source(site: Path, tmp_path: Path) -> None:
    listed = run(site, tmp_path, "-m", "monitorkit", "plugins").splitlines()
    (line,) = [line for line in listed if "night_share" in line]
    assert line.split() == [
        "monitor", "night_share", "monitorkit-night-share", "1.0.0:", "monitorkit_night_share",
    ]  # fmt: skip


def test_its_own_test_passes(site: Path, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE / "tests", tmp_path / "tests")
    alone = ("-p", "no:cacheprovider", "-p", "no:asyncio")
    assert "4 passed" in run(site, tmp_path, "-m", "pytest", "-q", "-W", "error", *alone)


def test_a_cycle_uses_it(site: Path, tmp_path: Path) -> None:
    (tmp_path / "cycle.py").write_text(dedent(CYCLE))
    tests = Path(__file__).parents[1]
    out = run(site, tmp_path, "cycle.py", str(tests / "monitoring"), str(tests))
    error, measure, value, threshold = json.loads(out.splitlines()[-1])
    assert (error, measure, threshold) == (None, "night_share", 0.5)
    assert 0 <= value <= 1
