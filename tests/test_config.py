"""Configuration: every key commented, wrong ones told with a suggestion, variables on top."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import validation
from pydantic import BaseModel, TypeAdapter, ValidationError

from monitorkit import config
from monitorkit.config import Config
from monitorkit.errors import ConfigError
from monitorkit.settings import FeatureBounds, KeyEntry, MonitorEntry, Registry, SinkEntry
from monitorkit.training import preprocessing
from monitorkit.units import Duration, Size, format_duration

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing from outside: no variables, and no file in the default place."""
    for variable in list(os.environ):
        if variable.upper().startswith(("MONITORKIT_", "MLFLOW_TRACKING_URI")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def load(text: str) -> Config:
    path = Path("some.toml")
    path.write_text(text)
    return config.load(path)


def problems(text: str = "") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def problem(text: str = "") -> str:
    (only,) = problems(text)
    return only


def sections(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the model, with its tables."""
    for name, field in model.model_fields.items():
        key = (*path, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, key)
        else:
            yield key


def value_at(table: Mapping[str, Any], key: tuple[str, ...]) -> Any:
    for part in key:
        table = table[part]
    return table


ENTRIES = {("monitors",), ("sinks",), ("serving", "keys")}
KEYS = [key for key in sections(Config) if key[0] != "schema" and key not in ENTRIES]


# The default file


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_key_is_in_the_file_with_its_default(key: tuple[str, ...]) -> None:
    default = Config().model_dump(mode="json", by_alias=True)
    written = load(config.default_text()).model_dump(mode="json", by_alias=True)
    assert value_at(tomllib.loads(config.default_text()), key) is not None
    assert value_at(written, key) == value_at(default, key)


def test_every_key_in_the_file_is_commented() -> None:
    """By a comment above it, or above the group of lines in which it stands."""
    uncommented, commented = [], False
    for line in config.default_text().splitlines():
        if line.startswith(("  ", "]")):
            continue  # the rest of a list
        if line.startswith("#"):
            commented = True
        elif not line:
            commented = False
        elif not line.startswith("[") and not commented:
            uncommented.append(line)
    assert uncommented == []


@pytest.mark.parametrize("model", [MonitorEntry, SinkEntry, FeatureBounds, KeyEntry])
def test_keys_of_entries_are_shown_too(model: type[BaseModel]) -> None:
    for key in model.model_fields:
        assert re.search(rf"^(# )?{key} =|`{key}`", config.default_text(), re.MULTILINE), key


def test_the_file_in_the_repository_is_the_default() -> None:
    written = (REPOSITORY / "config" / "monitorkit.toml").read_text(encoding="utf-8")
    assert written == config.default_text()


def test_the_default_file_is_written_once() -> None:
    path = Path("config/monitorkit.toml")
    config.write_default(path)
    assert path.read_text() == config.default_text()
    with pytest.raises(
        ConfigError, match=r"^config/monitorkit\.toml: .*: File exists\. .*--config"
    ):
        config.write_default(path)


def test_a_default_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    Path("config").write_text("in the way")
    with pytest.raises(ConfigError) as caught:
        config.write_default(config.DEFAULT_PATH)
    assert str(caught.value).startswith("config/monitorkit.toml: cannot be written: File exists. ")
    assert f"{tmp_path}/config" in str(caught.value)


def test_without_a_file_the_defaults_hold_monitors_and_sinks_included() -> None:
    settings = config.load()
    assert settings == load(config.default_text())
    assert {entry.name for entry in settings.monitors} >= {"feature-drift", "evidently"}
    assert settings.monitoring.verdict.monitor in {entry.name for entry in settings.monitors}


def test_the_file_in_the_default_place_is_found() -> None:
    config.DEFAULT_PATH.parent.mkdir()
    config.DEFAULT_PATH.write_text("[serving]\nport = 8123\n")
    assert config.load().serving.port == 8123
    assert config.load().monitors == config.load(config.DEFAULT_PATH).monitors != ()


# What is wrong in a file


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[serving]\nprot = 1", "unknown key `serving.prot`; did you mean `port`?"),
        ("[servign]\nport = 1", "unknown key `servign`; did you mean `serving`?"),
        ("[monitoring.verdict]\nmonitr = 1", "`monitoring.verdict.monitr`; did you mean `monitor`"),
        ("[schema.age]\nminimun = 3", "unknown key `schema.age.minimun`; did you mean `minimum`?"),
        ("[features.age]\nminimum = 3", "unknown key `features`; did you mean `schema`?"),
        (
            '[[monitors]]\nname = "a"\nuse = "ks"\nlookbak = "1h"',
            "unknown key `monitors.0.lookbak`; did you mean `lookback`?",
        ),
        (
            "[log]\nzzz = 1",
            "there are: archives, compress, durability, instance, retention, rotate",
        ),
        ("[training]\nseed = 5000000000", "`training.seed`: input should be less than or equal to"),
        ('[log]\ninstance = "a-b"', "`log.instance`: string should match pattern"),
        (
            '[log]\ninstance = "20260101T000000.000000Z"',
            "`log.instance`: this is what the time in a segment's name looks like",
        ),
        ('[log]\ninstance = "compress"', "`log.instance`: this is what the lock of compressing"),
        (
            '[log]\ninstance = "import"',
            "`log.instance`: this is what the segments of `monitorkit im",
        ),
        ("[serving]\nport = 70000", "`serving.port`: input should be less than or equal to 65535"),
        ('[training]\nestimator = "forest"', "'random_forest', 'hist_gradient_boosting' or"),
        ('[[monitors]]\nuse = "ks"', "`monitors.0.name`: field required"),
        ('[[sinks]]\nname = "../x"\nuse = "ks"', "`sinks.0.name`: string should match pattern"),
        ("serving = 3", "`serving`: input should be a valid dictionary"),
        ('[registry]\npoll = "soon"', "write a duration as a number and a unit: 300s, 5m, 24h"),
        ('[serving]\nmax_body = "lots"', "`serving.max_body`: could not parse value and unit"),
        ("_env_file = 'x'", "unknown key `_env_file`"),
        ("_cli_parse_args = true", "unknown key `_cli_parse_args`"),
        ("_env_prefix = 'x'", "unknown key `_env_prefix`"),
        ("[_secrets_dir]\nx = 1", "unknown key `_secrets_dir`"),
        ('[registry]\nmodel_name = " "', "`registry.model_name`: must not be empty"),
        (
            '[registry]\nmodel_name = "team/credit"',
            "`registry.model_name`: must not hold `/` or `:`",
        ),
        (
            '[registry]\nmodel_name = "team:credit"',
            "`registry.model_name`: must not hold `/` or `:`",
        ),
        ('[registry]\nmodel_name = "..credit"', "`registry.model_name`: must not hold `/` or `:`"),
        ("[registry]\nmodel_name = '''O'Neil \"x\" y'''", "holds both kinds of quotes"),
        (f'[registry]\nmodel_name = "{"x" * 257}"', "must be at most 256 characters"),
        ('[registry]\nalias = ""', "`registry.alias`: may hold letters, digits"),
        ('[registry]\nalias = "prod.eu"', "`registry.alias`: may hold letters, digits"),
        ('[registry]\nalias = "Latest"', "`registry.alias`: `latest`, `v1`"),
        ('[registry]\nalias = "v1"', "`registry.alias`: `latest`, `v1`"),
        (
            '[monitoring]\nbucket = "2h"\nlookback = "1h"',
            "`monitoring`: `lookback` is shorter than `bucket`",
        ),
        (
            '[monitoring]\nbucket = "2h"\n[[monitors]]\nname = "a"\nuse = "ks"\nlookback = "1h"',
            "[[monitors]] 'a': `lookback` is shorter than [monitoring] `bucket` (2h)",
        ),
        ("x = 1\nx = 2", "is not valid TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_is_told_with_the_key(text: str, told: str) -> None:
    assert told in problem(text)


def test_a_look_back_may_be_as_long_as_a_bucket() -> None:
    settings = load('[monitoring]\nbucket = "1h"\nlookback = "1h"')
    assert settings.monitoring.lookback == settings.monitoring.bucket


def test_all_problems_are_told_at_once_with_the_file() -> None:
    with pytest.raises(ConfigError, match=r"some\.toml: ") as caught:
        load("[serving]\nprot = 1\nport = -1\n[log]\nrotate = 0")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("kind", ["monitors", "sinks"])
def test_a_name_stands_for_one_entry(kind: str) -> None:
    entry = f'[[{kind}]]\nname = "twin"\nuse = "ks"\n'
    assert f"[[{kind}]] holds the name 'twin' twice" in problem(entry * 2)


def test_a_table_with_a_wrong_key_is_not_printed_whole() -> None:
    text = '[[sinks]]\nuse = "mail"\n[sinks.options]\npassword = "hush"'
    assert "hush" not in problem(text)


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        config.load(Path("nowhere.toml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config.load(Path("bytes.toml"))


# Environment variables


def test_variables_win_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_SERVING__PORT", "8001")
    monkeypatch.setenv("MONITORKIT_TRAINING__ESTIMATOR", "logistic_regression")
    monkeypatch.setenv("MONITORKIT_MONITORING__VERDICT__DRIFT_SHARE", "0.3")
    monkeypatch.setenv("MONITORKIT_MONITORING__ENABLED", "false")
    monkeypatch.setenv("MONITORKIT_MONITORING__INTERVAL", "2m")
    monkeypatch.setenv("MONITORKIT_REGISTRY__MODEL_NAME", "123")
    settings = load('[serving]\nport = 1\nhost = "::1"\n[monitoring.verdict]\nmonitor = "mine"')
    assert settings.serving.port == 8001
    assert settings.serving.host == "::1"
    assert settings.training.estimator == "logistic_regression"
    assert settings.monitoring.verdict.drift_share == 0.3
    assert settings.monitoring.verdict.monitor == "mine"
    assert settings.monitoring.enabled is False
    assert settings.monitoring.interval == timedelta(minutes=2)
    assert settings.registry.model_name == "123"


def test_tables_and_lists_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_MONITORING__PLUGIN_FILES", '["a.py", "b.py"]')
    monkeypatch.setenv("MONITORKIT_MONITORS", '[{"name": "x", "use": "ks"}]')
    monkeypatch.setenv("MONITORKIT_LOG", '{"durability": "fsync", "rotate": 5}')
    monkeypatch.setenv("MONITORKIT_LOG__ROTATE", "1MiB")
    settings = load('[[monitors]]\nname = "y"\nuse = "psi"')
    assert settings.monitoring.plugin_files == (Path("a.py"), Path("b.py"))
    assert settings.monitors == (MonitorEntry(name="x", use="ks"),)
    assert (settings.log.durability, settings.log.rotate) == ("fsync", 1024**2)


def test_arguments_of_estimators_keep_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_TRAINING__RANDOM_FOREST__N_ESTIMATORS", "10")
    monkeypatch.setenv("MONITORKIT_TRAINING__RANDOM_FOREST__MAX_FEATURES", "0.5")
    monkeypatch.setenv("MONITORKIT_TRAINING__RANDOM_FOREST__CRITERION", "entropy")
    settings = load("[training.random_forest]\nn_estimators = 7\nmax_depth = 3")
    assert settings.training.random_forest == {
        "n_estimators": 10, "max_depth": 3, "max_features": 0.5, "criterion": "entropy",
    }  # fmt: skip


def test_an_argument_of_one_letter_keeps_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_TRAINING__ESTIMATOR", "logistic_regression")
    monkeypatch.setenv("MONITORKIT_TRAINING__LOGISTIC_REGRESSION__C", "0.5")
    settings = load("[training.logistic_regression]\nmax_iter = 50")
    assert settings.training.logistic_regression == {"max_iter": 50, "C": 0.5}
    assert preprocessing.build(settings.training)[-1].C == 0.5


def test_bounds_are_variables_of_ours_and_of_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMA", "public")
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("MONITORKIT_SCHEMA__MonthlyIncome__MINIMUM", "3")
    monkeypatch.setenv("MONITORKIT_SCHEMA__a__b__TYPE", "integer")
    settings = load("[schema.MonthlyIncome]\nmaximum = 5\n[schema.age]\nnullable = false")
    assert settings.bounds() == {
        "MonthlyIncome": {"minimum": 3.0, "maximum": 5.0},
        "age": {"nullable": False},
        "a__b": {"type": "integer"},
    }
    monkeypatch.setenv("MONITORKIT_SCHEMA", '{"age": {"minimum": 18}}')
    assert config.load().bounds()["age"] == {"minimum": 18.0}


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (
            "MONITORKIT_SERVIN__PORT",
            "1",
            "variable MONITORKIT_SERVIN__PORT; did you mean `MONITORKIT_SERVING__PORT`",
        ),
        (
            "MONITORKIT_SERVING_PORT",
            "1",
            "variable MONITORKIT_SERVING_PORT; did you mean `MONITORKIT_SERVING__PORT`",
        ),
        ("MONITORKIT_SERVICES__X", "1", "MONITORKIT_SERVICES__X; did you mean `serving`"),
        ("MONITORKIT_FEATURES__AGE", "1", "unknown variable MONITORKIT_FEATURES__AGE"),
        ("MONITORKIT_", "1", "unknown variable MONITORKIT_;"),
        (
            "MONITORKIT_SERVING__PROT",
            "1",
            "`serving.prot` (set by MONITORKIT_SERVING__PROT); did you mean `port`",
        ),
        ("MONITORKIT_SERVING__PORT", "x", "(got 'x', set by MONITORKIT_SERVING__PORT)"),
        ("MONITORKIT_SERVING__PORT__X", "1", "set by MONITORKIT_SERVING__PORT__X"),
        ("MONITORKIT_LOG", '{"rotate": 0}', "set by MONITORKIT_LOG"),
        ("MONITORKIT_LOG", "abc", "MONITORKIT_LOG: is not JSON"),
        ("MONITORKIT_MONITORING__PLUGIN_FILES", "a.py", "PLUGIN_FILES: is not JSON"),
        ("MONITORKIT_MONITORS__0__NAME", "x", "set by MONITORKIT_MONITORS__0__NAME"),
        ("MONITORKIT_REGISTRY__POLL", "99999999999d", "`registry.poll`: that is longer than"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert told in str(caught.value)


SERVICE_OF_KUBERNETES = {
    "MONITORKIT_SERVICE_HOST": "10.0.0.11",
    "MONITORKIT_SERVICE_PORT": "8000",
    "MONITORKIT_SERVICE_PORT_HTTP": "8000",
    "MONITORKIT_PORT": "tcp://10.0.0.11:8000",
    "MONITORKIT_PORT_8000_TCP": "tcp://10.0.0.11:8000",
    "MONITORKIT_PORT_8000_TCP_PROTO": "tcp",
    "MONITORKIT_PORT_8000_TCP_PORT": "8000",
    "MONITORKIT_PORT_8000_TCP_ADDR": "10.0.0.11",
}
"""In pods beside a Service called monitorkit."""


def test_what_kubernetes_says_of_a_service_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICE_OF_KUBERNETES.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("MONITORKIT_SERVING__PORT", "8001")
    assert config.load().serving.port == 8001


@pytest.mark.parametrize(
    "variable",
    ["MONITORKIT_PORT", "MONITORKIT_SERVICE_PORTS", "MONITORKIT_PORT_8000", "MONITORKIT_SERVICE",
     "MONITORKIT_API_SERVICE_HOST", "MONITORKIT_PORT_8000_TCP_X"],
)  # fmt: skip
def test_what_only_looks_like_it_is_not(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "8001")
    with pytest.raises(ConfigError, match=f"unknown variable {variable};"):
        config.load()


def test_a_variable_cannot_be_a_value_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_SERVING__PORT", "1")
    monkeypatch.setenv("MONITORKIT_SERVING__PORT__X", "1")
    with pytest.raises(ConfigError, match="`port` has no keys of its own"):
        config.load()


# The command line


def test_arguments_win_over_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_SERVING__PORT", "8001")
    settings = config.load(None, {"serving": {"port": 9000}})
    assert settings.serving.port == 9000
    assert settings.serving.host == "127.0.0.1"
    with pytest.raises(ConfigError, match=r"^command line: `serving\.port`: .*65535"):
        config.load(None, {"serving": {"port": 70000}})


# Durations, sizes, the registry


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("1.5m", 90), (" 24 h ", 86400), ("7d", 604800), ("5", 5),
     (5, 5), (0.5, 0.5)],
)  # fmt: skip
def test_durations_are_read(text: object, seconds: float) -> None:
    assert TypeAdapter(Duration).validate_python(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "1w", "-1s", "0s", 0, -1, "1s2", "PT5S", True, "9" * 30 + "d", "9" * 400 + "s",
     float("nan"), "٣s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=10_000_000)))
def test_durations_come_back(value: timedelta) -> None:
    assert TypeAdapter(Duration).validate_python(format_duration(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(days=2), "2d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=5), "5m"),
        (timedelta(seconds=90), "90s"),
        (timedelta(milliseconds=250), "0.25s"),
        (timedelta(seconds=1_234_567.5), "1234567.5s"),
    ],
)
def test_durations_are_written_in_the_largest_unit(value: timedelta, text: str) -> None:
    assert format_duration(value) == text


def test_sizes_are_read() -> None:
    size = TypeAdapter(Size)
    assert size.validate_python("4MiB") == 4 * 1024**2
    assert size.validate_python("1GB") == 10**9
    assert size.validate_python(512) == 512
    for wrong in ("0", 0, -1, "lots", True):
        with pytest.raises(ValidationError):
            size.validate_python(wrong)


def test_where_mlflow_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    embedded = load("")
    assert embedded.tracking_uri == f"sqlite:///{tmp_path}/monitoring/mlflow/mlflow.db"
    assert embedded.artifact_root == tmp_path / "monitoring" / "mlflow" / "artifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    assert embedded.tracking_uri == "http://127.0.0.1:5001"
    assert embedded.artifact_root is None
    configured = load('[registry]\ntracking_uri = "http://127.0.0.1:5002"')
    assert configured.tracking_uri == "http://127.0.0.1:5002"
    monkeypatch.setenv("MONITORKIT_REGISTRY__TRACKING_URI", "http://127.0.0.1:5003")
    assert config.load(Path("some.toml")).tracking_uri == "http://127.0.0.1:5003"


@pytest.mark.parametrize("root", ["what?", "c%20d", "c%3Fd"])
def test_a_folder_that_an_address_cannot_hold_is_refused_for_the_embedded_store(
    monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    settings = Config(storage={"root": root})
    for read in (lambda: settings.tracking_uri, lambda: settings.artifact_root):
        with pytest.raises(ConfigError, match=re.escape(f"{root}/mlflow: `?`, and `%` before")):
            read()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    assert settings.tracking_uri == "http://127.0.0.1:5001"
    assert settings.artifact_root is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere/mlflow.db")
    with pytest.raises(ConfigError, match=r"^\[storage\] root: "):
        _ = settings.artifact_root


@pytest.mark.parametrize("root", ["a b", "é", "#1", "50%", "100%x"])
def test_other_folders_are_taken(root: str) -> None:
    assert Config(storage={"root": root}).tracking_uri.endswith(f"/{root}/mlflow/mlflow.db")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MLFLOW: Any = validation
NEAR = st.sampled_from(
    ["", ".", "..", "..a", "a..", ".a", "v1", "V10", "vx", "latest", "a-b_c", "é"]
)


@given(NAMES | NEAR)
def test_names_and_aliases_are_taken_as_mlflow_takes_them(text: str) -> None:
    """Only that a name must be one that its filters can ask for."""
    both = "'" in text and '"' in text
    newline = text.endswith("\n")  # which the `$` of MLflow lets through
    named = mlflow_takes(MLFLOW._validate_model_name, text=text)
    assert takes(Registry, model_name=text) == (named and not both)
    alias = mlflow_takes(
        MLFLOW._validate_model_alias_name, MLFLOW._validate_model_alias_name_reserved, text=text
    )
    assert takes(Registry, alias=text) == (alias and not newline)


def takes(model: type[BaseModel], **values: str) -> bool:
    try:
        model(**values)
    except ValidationError:
        return False
    return True


def mlflow_takes(*rules: Callable[[str], None], text: str) -> bool:
    try:
        for rule in rules:
            rule(text)
    except MlflowException:
        return False
    return True


def test_folders_are_below_the_root() -> None:
    storage = Config(storage={"root": "elsewhere"}).storage
    folders = [storage.mlflow, storage.models, storage.reference, storage.predictions,
               storage.results, storage.state, storage.reports]  # fmt: skip
    assert all(folder.parts[0] == "elsewhere" for folder in folders)
    assert len(set(folders)) == len(folders)


# Printing it


def test_the_effective_configuration_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_REGISTRY__POLL", "1500ms")
    monkeypatch.setenv("MONITORKIT_MONITORING__PLUGIN_FILES", '["a.py"]')
    monkeypatch.setenv("MONITORKIT_SCHEMA__age__MINIMUM", "18")
    settings = config.load()
    text = config.to_toml(settings)
    for variable in list(os.environ):
        if variable.startswith("MONITORKIT_"):
            monkeypatch.delenv(variable)
    assert load(text) == settings


def test_what_is_null_is_left_out_of_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORKIT_TRAINING__RANDOM_FOREST__MAX_DEPTH", "null")
    monkeypatch.setenv("MONITORKIT_TRAINING__RANDOM_FOREST__CLASS_WEIGHT", '{"0": null, "1": 2}')
    settings = load("[training.random_forest]\nn_estimators = 7")
    assert settings.training.random_forest["max_depth"] is None
    printed = tomllib.loads(config.to_toml(settings))
    assert printed["training"]["random_forest"] == {"n_estimators": 7, "class_weight": {"1": 2}}


@given(
    st.builds(
        dict,
        registry=st.fixed_dictionaries(
            {"poll": st.timedeltas(timedelta(microseconds=1), timedelta(days=999_999))}
        ),
        log=st.fixed_dictionaries({"rotate": st.integers(1, 2**50)}),
        training=st.fixed_dictionaries(
            {"random_forest": st.dictionaries(st.text(max_size=5), st.integers() | st.text())}
        ),
        schema=st.dictionaries(
            st.text(max_size=5), st.fixed_dictionaries({"minimum": st.floats(allow_nan=False)})
        ),
    )
)
def test_what_is_printed_is_what_is_meant(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    settings = Config(**values)
    path = tmp_path_factory.mktemp("config") / "printed.toml"
    path.write_text(config.to_toml(settings), encoding="utf-8", newline="")
    assert config.load(path) == settings
