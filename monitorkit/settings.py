"""The tables of the configuration file, each a pydantic model in which unknown keys are errors."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

from monitorkit import environment
from monitorkit.logs import LogFormat, LogLevel
from monitorkit.schema import FeatureType
from monitorkit.trust import Trust
from monitorkit.units import Duration, LimitDuration, LimitSize, Size

_LONGEST_NAME = 256
"""What the tables of MLflow have room for."""

Estimator = Literal["random_forest", "hist_gradient_boosting", "logistic_regression"]


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Storage(Section):
    """Where everything that runs write is kept; relative to the folder monitorkit starts in."""

    root: Path = Path("monitoring")
    disk_warning: LimitSize = ByteSize(1024**3)

    @property
    def mlflow(self) -> Path:
        """The embedded MLflow store."""
        return self.root / "mlflow"

    @property
    def models(self) -> Path:
        """Local copies of the served model versions."""
        return self.root / "models"

    @property
    def reference(self) -> Path:
        """The frozen reference."""
        return self.root / "reference"

    @property
    def predictions(self) -> Path:
        """The prediction log."""
        return self.root / "predictions"

    @property
    def results(self) -> Path:
        """JSON results."""
        return self.root / "metrics" / "monitoring_results"

    @property
    def state(self) -> Path:
        """Caches and positions of the monitoring; may be deleted, and is rebuilt from the log."""
        return self.root / "metrics" / "state"

    @property
    def reports(self) -> Path:
        """HTML reports."""
        return self.root / "reports" / "drift_reports"


class Data(Section):
    """The data set to train on and to simulate with."""

    path: Path = Path("data/cs-training.csv")
    target: str = "SeriousDlqin2yrs"
    synthetic_rows: int = Field(default=30_000, ge=1_000, le=5_000_000)
    seed: int = Field(default=42, ge=0)


class Training(Section):
    """How `train` makes a model."""

    estimator: Estimator = "random_forest"
    test_share: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, le=2**32 - 1)  # of scikit-learn
    random_forest: dict[str, Any] = Field(
        default_factory=lambda: {
            "n_estimators": 100,
            "max_depth": 10,
            "min_samples_split": 5,
            "min_samples_leaf": 2,
        }
    )
    hist_gradient_boosting: dict[str, Any] = Field(default_factory=dict)
    logistic_regression: dict[str, Any] = Field(default_factory=lambda: {"max_iter": 1000})


class Registry(Section):
    """The MLflow registry."""

    tracking_uri: str = ""
    model_name: str = "credit-risk-model"
    alias: str = "production"
    poll: Duration = timedelta(seconds=10)
    timeout: Duration = timedelta(seconds=60)
    skops_trusted_types: tuple[str, ...] = (
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "numpy.dtype",
    )
    allow_pickle: bool = False

    @field_validator("model_name")
    @classmethod
    def _is_a_model_name(cls, name: str) -> str:
        """MLflow's own rules, and what its filters can ask for: else a training would be lost."""
        if not name.strip():
            raise ValueError("must not be empty")
        if name == "." or name.startswith("..") or "/" in name or ":" in name:
            raise ValueError(
                "must not hold `/` or `:`, nor look like a folder: MLflow takes no such"
            )
        if "'" in name and '"' in name:
            raise ValueError("holds both kinds of quotes, and MLflow could not look it up then")
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"must be at most {_LONGEST_NAME} characters long")
        return name

    @field_validator("alias")
    @classmethod
    def _is_an_alias(cls, alias: str) -> str:
        """MLflow's own rules."""
        if not re.fullmatch(r"[\w-]{1,255}", alias):
            raise ValueError("may hold letters, digits, `_` and `-` only, 255 at most")
        if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
            raise ValueError("`latest`, `v1`, `v2`, … are names of MLflow's own; choose another")
        return alias

    @property
    def trust(self) -> Trust:
        """What a model's file may do when it is read."""
        return Trust(self.skops_trusted_types, self.allow_pickle)


class FeatureBounds(Section):
    """What `[schema.FEATURE]` may override."""

    type: FeatureType | None = None
    nullable: bool | None = None
    minimum: float | None = None
    maximum: float | None = None


KeyScope = Literal["predict", "read", "operate"]


class KeyEntry(Section):
    """One `[[serving.keys]]` entry: what an API key may do. The key itself is never in the file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    sha256: str = ""
    environment: str = ""
    scopes: tuple[KeyScope, ...] = Field(min_length=1)

    @field_validator("sha256")
    @classmethod
    def _is_a_hash(cls, sha256: str) -> str:
        if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(
                "must be the SHA-256 of the key in 64 hexadecimal digits, and never the key itself;"
                " `monitorkit new-key` prints it"
            )
        return sha256

    @field_validator("environment")
    @classmethod
    def _is_a_variable(cls, name: str) -> str:
        if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
            raise ValueError(
                "must be the name of an environment variable, and never the key itself"
            )
        if name.startswith(environment.KEY_PREFIX):  # not all keys have a sign that no name has
            raise ValueError(
                "a key stands where the name of a variable belongs (what begins with "
                f"{environment.KEY_PREFIX} is taken for one); name the variable that holds it"
            )
        if name.upper().startswith(environment.PREFIX) and name != environment.KEY_VARIABLE:
            raise ValueError(
                f"names that begin with {environment.PREFIX} are keys of this file; the only other "
                f"one is {environment.KEY_VARIABLE}"
            )
        return name

    @model_validator(mode="after")
    def _has_one_source(self) -> KeyEntry:
        if bool(self.sha256) == bool(self.environment):
            raise ValueError("give either `sha256` or `environment`, and not both")
        return self


class Serving(Section):
    """The HTTP service."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_body: Size = ByteSize(4 * 1024**2)
    max_batch_rows: int = Field(default=10_000, ge=1)
    max_waiting_rows: int = Field(default=20_000, ge=1)
    max_connections: int = Field(default=5_000, ge=1)
    receive_timeout: Duration = timedelta(seconds=30)
    idle_timeout: Duration = timedelta(seconds=65)
    shutdown_grace: Duration = timedelta(seconds=20)
    access_log: bool = False
    allowed_hosts: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    keys: tuple[KeyEntry, ...] = ()

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name != "*" and not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
                raise ValueError(
                    f"{name!r} is no host name: write it without scheme and port, `*.example.com` "
                    "for all below it, `*` for every one; addresses are always taken"
                )
        return names

    @model_validator(mode="after")
    def _has_both_files(self) -> Serving:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("give both `tls_certificate` and `tls_key`, or neither")
        return self


class LogRetention(Section):
    """When segments of the log are deleted; never by default."""

    max_age: LimitDuration = timedelta(0)
    max_size: LimitSize = ByteSize(0)


class Log(Section):
    """The prediction log."""

    durability: Literal["os", "fsync"] = "os"
    rotate: Size = ByteSize(256 * 1024**2)
    # No dash, and no time: it stands in the names of segments, between those.
    instance: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.]{0,31})?$")

    compress: bool = False
    archives: tuple[str, ...] = ()
    retention: LogRetention = LogRetention()

    @field_validator("instance")
    @classmethod
    def _is_no_time(cls, instance: str) -> str:
        if re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z", instance):
            raise ValueError("this is what the time in a segment's name looks like; choose another")
        if instance == "import":
            raise ValueError("this is what the segments of `monitorkit import` are called")
        if instance == "compress":
            raise ValueError("this is what the lock of compressing is called; choose another")
        return instance


class Verdict(Section):
    """Where the dataset verdict in the result comes from."""

    monitor: str = "feature-drift"
    drift_share: float = Field(default=0.5, gt=0, le=1)


class ResultRetention(Section):
    """How many results are kept."""

    keep: int = Field(default=10_000, ge=1)
    max_size: LimitSize = ByteSize(0)
    max_age: LimitDuration = timedelta(0)


class ReportRetention(Section):
    """How many HTML reports are kept."""

    keep: int = Field(default=50, ge=1)
    max_size: LimitSize = ByteSize(500 * 1024**2)
    max_age: LimitDuration = timedelta(0)


class Monitoring(Section):
    """The periodic task and its gate."""

    enabled: bool = True
    interval: Duration = timedelta(seconds=300)
    lookback: Duration = timedelta(hours=24)
    bucket: Duration = timedelta(minutes=1)
    resolution: int = Field(default=32, ge=2, le=1024)
    min_rows: int = Field(default=200, ge=1)
    worker_memory: Size = ByteSize(4 * 1024**3)
    plugin_files: tuple[Path, ...] = ()
    verdict: Verdict = Verdict()
    results: ResultRetention = ResultRetention()
    reports: ReportRetention = ReportRetention()

    @model_validator(mode="after")
    def _holds_a_bucket(self) -> Monitoring:
        if self.lookback < self.bucket:
            raise ValueError(
                "`lookback` is shorter than `bucket`, and would often hold no row; make it longer, "
                "or the bucket shorter"
            )
        return self


class MonitorEntry(Section):
    """One `[[monitors]]` entry."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    use: str
    lookback: Duration | None = None
    timeout: Duration = timedelta(seconds=60)
    options: dict[str, Any] = Field(default_factory=dict)


class SinkEntry(Section):
    """One `[[sinks]]` entry."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    use: str
    timeout: Duration = timedelta(seconds=60)
    options: dict[str, Any] = Field(default_factory=dict)


class Logging(Section):
    """The events on stdout."""

    level: LogLevel = "INFO"
    format: LogFormat = "auto"


class Telemetry(Section):
    """Traces for OpenTelemetry."""

    traces: str = Field(default="", pattern=r"^(https?://\S+)?$")
    service_name: str = "monitorkit"
