"""The configuration: one pydantic model, read from TOML, overridden by environment variables."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitorkit import environment
from monitorkit.errors import ConfigError
from monitorkit.redaction import redacted
from monitorkit.settings import (
    Data,
    FeatureBounds,
    Log,
    Logging,
    MonitorEntry,
    Monitoring,
    Registry,
    Serving,
    SinkEntry,
    Storage,
    Telemetry,
    Training,
)
from monitorkit.suggestions import suggestion
from monitorkit.units import format_duration

DEFAULT_PATH = Path("config/monitorkit.toml")


class Config(BaseModel):
    """The whole configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage: Storage = Storage()
    data: Data = Data()
    training: Training = Training()
    registry: Registry = Registry()
    features: dict[str, FeatureBounds] = Field(default_factory=dict, alias="schema")
    serving: Serving = Serving()
    log: Log = Log()
    monitoring: Monitoring = Monitoring()
    monitors: tuple[MonitorEntry, ...] = ()
    sinks: tuple[SinkEntry, ...] = ()
    logging: Logging = Logging()
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        for kind, entries in (
            ("monitors", self.monitors),
            ("sinks", self.sinks),
            ("serving.keys", self.serving.keys),
        ):
            names = [entry.name for entry in entries]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"[[{kind}]] holds the name {name!r} twice; rename one")
        return self

    @model_validator(mode="after")
    def _look_backs_hold_a_bucket(self) -> Config:
        bucket = self.monitoring.bucket
        for entry in self.monitors:
            if entry.lookback is not None and entry.lookback < bucket:
                raise ValueError(
                    f"[[monitors]] {entry.name!r}: `lookback` is shorter than [monitoring] `bucket`"
                    f" ({format_duration(bucket)}), and would often hold no row; make it longer, or"
                    " the bucket shorter"
                )
        return self

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is: configured, `MLFLOW_TRACKING_URI`, or the embedded store.

        Raises:
            ConfigError: the embedded store cannot be in that folder.
        """
        given = self.registry.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{self._embedded('mlflow.db')}"

    @property
    def artifact_root(self) -> Path | None:
        """Where the embedded store keeps artifacts; None when a server does.

        Raises:
            ConfigError: it cannot be in that folder.
        """
        local = self.tracking_uri.startswith("sqlite:")
        return self._embedded("artifacts") if local else None

    def _embedded(self, name: str) -> Path:
        """A path in the embedded store, as it stands in addresses.

        Quoting would not do: which parts of an address are unquoted depends on the release of
        SQLAlchemy, and MLflow unquotes the artifacts' again.
        """
        path = (self.storage.mlflow / name).resolve()
        if re.search(r"\?|%[0-9A-Fa-f]{2}", str(path)):
            problem = (
                f"MLflow's own store cannot be below {self.storage.mlflow.resolve()}: `?`, and `%` "
                "before two hexadecimal digits, mean something else in an address. Choose another "
                "folder, or set [registry] tracking_uri to a server"
            )
            raise ConfigError("[storage] root", (problem,))
        return path

    def bounds(self) -> dict[str, dict[str, Any]]:
        """The `[schema]` overrides, only what was given."""
        return {name: b.model_dump(exclude_unset=True) for name, b in self.features.items()}


def default_text() -> str:
    """The commented default file."""
    return resources.files("monitorkit").joinpath("default.toml").read_text(encoding="utf-8")


def load(
    path: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Config:
    """Read the configuration.

    Args:
        path: a TOML file; None: `config/monitorkit.toml` if it is there, else the defaults.
        overrides: values from the command line, which win over everything.

    Raises:
        ConfigError: naming the file or variable, every wrong key, and near misses.
    """
    if path is None and DEFAULT_PATH.exists():
        path = DEFAULT_PATH
    source = str(path) if path is not None else "default.toml"
    try:
        text = path.read_text(encoding="utf-8") if path is not None else default_text()
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(source, (f"cannot be read: {error.strerror}",)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(source, (f"is not valid TOML: {error}",)) from error
    given = environment.read(Config)
    unknown = tuple(_unknown_variables(given))
    if unknown:
        raise ConfigError("environment", unknown)
    if "features" in table:  # the field behind [schema]; BaseModel.schema is taken
        raise ConfigError(source, ("unknown key `features`; did you mean `schema`?",))
    try:
        # A file without monitors or sinks has the default ones; `monitors = []` has none.
        defaults = tomllib.loads(default_text())
        whole = {name: defaults[name] for name in ("monitors", "sinks")} | table
        config = Config.model_validate(_merged(whole, given.table))
    except ValidationError as error:
        raise ConfigError(source, tuple(_problems(error, given))) from error
    return _overridden(config, overrides) if overrides else config


def write_default(path: Path) -> None:
    """Write the commented default file where there is none.

    Raises:
        ConfigError: the file is there, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(default_text())
    except OSError as error:
        problem = (
            f"cannot be written: {error.strerror}. Let this user write in {path.parent.absolute()},"
            " start in another folder, or name a file with --config"
        )
        raise ConfigError(str(path), (problem,)) from error


def to_toml(config: Config) -> str:
    """The effective configuration as TOML that `load` reads back; no passwords in addresses.

    Nothing, as a variable in JSON may give an estimator's argument, is left out: TOML has no null.
    """
    import tomli_w  # noqa: PLC0415 - for one command only

    table = _without_nulls(config.model_dump(mode="json", by_alias=True))
    if not table["serving"]["keys"]:
        del table["serving"]["keys"]  # `[[serving.keys]]` of `new-key` could not be added to it
    return redacted(tomli_w.dumps(table))


def _merged(table: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A table in which another one's keys win, in the tables inside of it likewise."""
    found = dict(table)
    for key, value in over.items():
        inside = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = _merged(found[key], value) if inside else value
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value


def _overridden(config: Config, overrides: Mapping[str, Mapping[str, Any]]) -> Config:
    sections: dict[str, Any] = {}
    for name, values in overrides.items():
        section = getattr(config, name)
        try:
            sections[name] = type(section).model_validate({**section.model_dump(), **values})
        except ValidationError as error:
            problems = tuple(_problems(error, environment.Overrides({}, {}), within=(name,)))
            raise ConfigError("command line", problems) from error
    return config.model_copy(update=sections)


def _unknown_variables(given: environment.Overrides) -> Iterator[str]:
    """Variables that no key takes would be ignored silently; they are errors like unknown keys."""
    known = _keys(Config)
    for key, variable in given.variables.items():
        if key[0] not in known:
            near = difflib.get_close_matches(variable.upper(), _variables(), n=1, cutoff=0.9)
            wanted = suggestion(key[0], sorted(known), "`")
            hint = f"; did you mean `{near[0]}`?" if near else wanted
            yield f"unknown variable {variable}{hint}"


def _variables() -> list[str]:
    """Those of keys in tables: whoever knows other programs writes one `_` for two."""
    found = []
    for table, field in Config.model_fields.items():
        section = _section_in(field.annotation)
        keys = _keys(section) if section is not None else []
        found += [environment.name_of(field.alias or table, key) for key in keys]
    return found


def _problems(
    error: ValidationError, given: environment.Overrides, within: tuple[str, ...] = ()
) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        key = (*within, *problem["loc"])
        path = ".".join(str(part) for part in key)
        variable = given.variable_of(key)
        by = f"set by {variable}" if variable is not None else ""
        if problem["type"] == "extra_forbidden":
            hint = suggestion(str(key[-1]), sorted(_keys_beside(key)), "`")
            yield f"unknown key `{path}`{f' ({by})' if by else ''}{hint}"
        elif path:
            # Not whole tables, which may hold a password further down; and whoever writes a key
            # where its hash belongs must not find it in a log.
            secret = key[:2] == ("serving", "keys")
            plain = isinstance(problem["input"], str | int | float) and not secret
            got = [f"got {problem['input']!r}"] if plain else []
            told = ", ".join([*got, by] if by else got)
            yield f"`{path}`: {_decapitalised(problem['msg'])}{f' ({told})' if told else ''}"
        else:
            yield _decapitalised(problem["msg"])


def _decapitalised(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table of a wrong key would take."""
    model: Any = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
        if field is None:  # a key of a free table such as [schema.FEATURE]
            continue
        model = _section_in(field.annotation) or model
    return _keys(model)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_in(argument)
        if found is not None:
            return found
    return None
