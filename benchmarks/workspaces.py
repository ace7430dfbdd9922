"""Folders to monitor in: a trained model with a frozen reference, and logs of any length."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from benchmarks.histories import Material, append
from monitorkit import config, model, reference, registry
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.training import synthetic

TEN, HUNDRED = 10, 100
SPAN = timedelta(hours=23)
"""Time stamps of a history; what is left of the look-back is the time to measure it in."""
NEW_ROWS = 1_500
NEW_SPAN = timedelta(minutes=5)
"""New rows come in the interval between two cycles."""

TRAINED_ROWS = 30_000
MATERIAL_CELLS = 2_000_000
SEED = 7
MODEL_VERSION = "1"

PEER = "evidently_drift"
"""The kind of monitor that is a peer here, measured by itself."""


def monitors() -> list[dict[str, Any]]:
    """The monitors of the default configuration but the peer; chi-square as scipy has it."""
    listed: list[dict[str, Any]] = tomllib.loads(config.default_text())["monitors"]
    found = [entry for entry in listed if entry["use"] != PEER]
    for entry in found:
        if entry["use"] == "chi_square":  # on the plain categories
            entry["options"]["min_expected"] = 0
    return found


@dataclass(slots=True)
class History:
    """A prediction log with a monitoring of its own.

    Attributes:
        config: the configuration file.
        root: of everything that monitoring keeps.
        material: what its rows are made of.
        rows: that it has by now.
        written: when it was begun; its rows leave the look-back an hour later.
    """

    config: Path
    root: Path
    material: Material
    rows: int = 0
    written: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def predictions(self) -> Path:
        """The folder of its segments."""
        return self.root / "predictions"

    @property
    def reference(self) -> Path:
        """The reference's rows."""
        return self.root / "reference" / "reference_data.csv"

    def fill(self, rows: int, span: timedelta = SPAN) -> None:
        """Append rows that came over the whole day, or another span, up to now."""
        append(self.predictions, self.material, rows, datetime.now(UTC) - span, span)
        self.rows += rows

    def add_new(self) -> None:
        """Append rows that came in the last minutes."""
        append(self.predictions, self.material, NEW_ROWS, datetime.now(UTC) - NEW_SPAN, NEW_SPAN)
        self.rows += NEW_ROWS

    def forget(self) -> None:
        """Let monitoring know nothing of the log, nor of results; the model's scores stay."""
        for path in (self.root / "metrics" / "state").glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith("reference_scores"):
                path.unlink()
        for name in ("metrics/monitoring_results", "reports"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self.root)
        self.config.unlink()


class Workspace:
    """A folder with a trained model and its reference, of which histories are copies.

    Args:
        folder: made.
        columns: 10, the synthetic applicants, or any other number of made-up ones.
    """

    def __init__(self, folder: Path, columns: int) -> None:
        self.folder = folder.resolve()
        self.columns = columns
        self.folder.mkdir(parents=True)
        self._trained = self.folder / "trained"
        if columns != TEN:
            write_table(self.folder / "table.csv", *wide(TRAINED_ROWS, columns, seed=1))
        file = self._configure("trained", self._trained)
        for command in ("train", "bootstrap"):
            subprocess.run(
                [sys.executable, "-m", "monitorkit", command, "--config", str(file)],
                cwd=self.folder,
                check=True,
                capture_output=True,
            )
        self._material = self._make_material(file)

    def history(self, rows: int, name: str = "", span: timedelta = SPAN) -> History:
        """A new history of so many rows."""
        name = name or f"rows-{rows}"
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._trained, root)
        made = History(self._configure(name, root), root, self._material)
        if rows:
            made.fill(rows, span)
        return made

    def _configure(self, name: str, root: Path) -> Path:
        data: dict[str, Any] = {"path": str(self.folder / "table.csv")}
        table: dict[str, Any] = {
            "storage": {"root": str(root)},
            "data": data | ({"target": "target"} if self.columns != TEN else {}),
            # A forest knows the importance of its columns; other models are asked, at length.
            "training": {"random_forest": {"n_estimators": 20, "max_depth": 8}},
            "monitoring": {"lookback": "24h"},
            "logging": {"level": "WARNING"},
            "monitors": monitors(),
            "sinks": [],
        }
        path = self.folder / f"{name}.toml"
        path.write_text(tomli_w.dumps(table), encoding="utf-8")
        return path

    def _make_material(self, file: Path) -> Material:
        """Rows that the model was not trained on, with its scores."""
        settings = config.load(file)
        folder = registry.stored(registry.address(settings), settings.storage.models, MODEL_VERSION)
        if folder is None:
            raise RuntimeError(f"{settings.storage.models} has no model version {MODEL_VERSION}")
        trained = model.load(folder, settings.registry.trust)
        rows = MATERIAL_CELLS // self.columns
        if self.columns == TEN:
            columns, _ = synthetic.applicants(rows, SEED)
        else:
            columns, _ = wide(rows, self.columns, seed=SEED)
        # A service has scored its reference long before the cycle that is measured.
        scored_reference(settings, reference.load(settings.storage.reference), MODEL_VERSION)
        schema = trained.card.schema
        features = np.column_stack([columns[name] for name in schema.names])
        return Material.of(schema, features, trained.scores(features))


def wide(
    rows: int, columns: int, seed: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """A made-up data set: half of the columns normal, a quarter skewed, a quarter counts.

    Args:
        rows: how many.
        columns: how many.
        seed: of everything random in it.

    Returns:
        The columns, (rows,) each, and the labels, (rows,) 0 or 1.
    """
    random = np.random.default_rng(seed)
    made: dict[str, NDArray[np.float64]] = {}
    for number in range(columns):
        if number % 4 == 0:
            values = random.lognormal(3, 0.8, rows).round(2)
        elif number % 4 == 1:
            values = random.poisson(2.5, rows).astype(np.float64)
        else:
            values = random.normal(number, 5, rows).round(6)
        made[f"feature_{number:03d}"] = values
    odds = sum((made[name] - made[name].mean()) / made[name].std() for name in list(made)[:8])
    return made, (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)


def write_table(
    path: Path, columns: dict[str, NDArray[np.float64]], labels: NDArray[np.int64]
) -> None:
    """Write a CSV file to train on, with the column `target`."""
    import pandas as pd  # noqa: PLC0415 - to write a table, once

    pd.DataFrame({**columns, "target": labels}).to_csv(path, index=False)
