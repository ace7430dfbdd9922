"""Builds the plugin manager: entry points, ours among them, and files that the config names."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import pluggy
from pydantic import ValidationError

from monitorkit import hookspecs, logs
from monitorkit.config import Config
from monitorkit.contracts import Chunk, Monitor, Options, Sink, SinkContext
from monitorkit.errors import ConfigError, PluginError, said
from monitorkit.settings import MonitorEntry, SinkEntry
from monitorkit.suggestions import suggestion

log = logs.get(__name__)

GROUP = "monitorkit"

Type = Literal["monitor", "sink", "broken"]
Class = type[Any]

_HOOKS: Mapping[str, tuple[Literal["monitor", "sink"], type[Any]]] = {
    "monitorkit_monitors": ("monitor", Monitor),
    "monitorkit_sinks": ("sink", Sink),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of monitor or sink that `use` in TOML can name, or a plugin that gives none.

    Attributes:
        kind: the name; of a broken plugin, its entry point's.
        type: monitor | sink | broken.
        source: where it comes from, for people.
        digest: of the code in its file and its bases', so that kept summaries are not taken for
            those of another version.
        cls: the class.
        problem: what is wrong with a broken one.
    """

    kind: str
    type: Type
    source: str
    digest: str
    cls: Class
    problem: str | None = None


class Manager(pluggy.PluginManager):
    """A plugin manager that remembers what could not be loaded.

    Attributes:
        entries: entry points by the name of the plugin that each gave.
        broken: by that name: the entry point's own, and what is wrong.
    """

    def __init__(self) -> None:
        super().__init__("monitorkit")
        self.add_hookspecs(hookspecs)
        self.entries: dict[str, EntryPoint] = {}
        self.broken: dict[str, tuple[str, str]] = {}

    def set_aside(self, source: str, problem: str) -> None:
        """Go on without an entry point's plugin; it matters only to who uses its kinds."""
        if source not in self.broken:
            log.warning("plugin_not_loaded", source=source, reason=problem)
        self.broken[source] = (self.entries[source].name, problem)


def build(plugin_files: Iterable[Path] = ()) -> Manager:
    """Load every plugin there is.

    A broken package of somebody else is a WARNING event, and an error only when its kind is used;
    a broken file that the configuration names is an error at once.

    Args:
        plugin_files: Python files with hooks.

    Raises:
        PluginError: naming the file and the problem.
    """
    manager = Manager()
    given = list(dict.fromkeys(Path(path) for path in plugin_files))
    files = {path.resolve() for path in given}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        source = _source(entry)
        if source in manager.entries:
            continue  # one distribution seen twice on sys.path
        if files and _module_file(entry) in files:
            continue  # it is installed, and its file is given as well
        manager.entries[source] = entry
        try:
            with contextlib.redirect_stdout(logs.Printed("monitorkit.plugins")):
                loaded = entry.load()
            _register(manager, source, loaded)
        except PluginError as error:
            manager.set_aside(source, error.problem)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code
            manager.set_aside(source, _told(error))
    for path in given:
        _register(manager, str(path), _load_file(path))
    return manager


def kinds(manager: Manager) -> list[Kind]:
    """Every kind that the plugins register, sorted by type and name; broken plugins come last.

    Raises:
        PluginError: a file registers what is no monitor or sink class, or two plugins register
            one kind.
    """
    found: dict[tuple[str, str], Kind] = {}
    for source, plugin in manager.list_name_plugin():
        try:
            registered = list(_registered(manager, source, plugin))
        except PluginError as error:
            if source not in manager.entries:
                raise
            manager.set_aside(source, error.problem)
            continue
        for kind in registered:
            other = found.setdefault((kind.type, kind.kind), kind)
            if other is not kind:
                problem = f"registers the {kind.type} {kind.kind!r}, and so does {other.source}"
                raise PluginError(source, f"{problem}. Remove or rename one of the two")
    broken = [
        Kind(name, "broken", source, "", object, problem)
        for source, (name, problem) in sorted(manager.broken.items())
    ]
    return [found[key] for key in sorted(found)] + broken


def make_monitor(known: Sequence[Kind], entry: MonitorEntry, reference: Chunk) -> Monitor[Any, Any]:
    """Build the monitor of one `[[monitors]]` entry.

    Raises:
        ConfigError: the kind or an option is unknown or invalid.
        Exception: whatever its constructor raises.
    """
    where = f"monitors.{entry.name}"
    kind = _find(known, "monitor", entry.use, where)
    monitor: Monitor[Any, Any] = kind.cls(_options(kind, entry.options, where), reference)
    return monitor


def make_sink(known: Sequence[Kind], entry: SinkEntry, context: SinkContext) -> Sink[Any]:
    """Build the sink of one `[[sinks]]` entry.

    Raises:
        ConfigError: the kind or an option is unknown or invalid.
        Exception: whatever its constructor raises.
    """
    where = f"sinks.{entry.name}"
    kind = _find(known, "sink", entry.use, where)
    sink: Sink[Any] = kind.cls(_options(kind, entry.options, where), context)
    return sink


def checked(config: Config) -> list[Kind]:
    """The kinds of a configuration, once `check` has nothing against it.

    Raises:
        PluginError, ConfigError: as `build`, `kinds` and `check`.
    """
    known = kinds(build(config.monitoring.plugin_files))
    check(known, config)
    return known


def check(known: Sequence[Kind], config: Config) -> None:
    """Refuse a configuration that names unknown kinds, wrong options or no verdict monitor.

    Raises:
        ConfigError: naming every problem.
    """
    problems: list[str] = []
    entries: list[tuple[Literal["monitor", "sink"], MonitorEntry | SinkEntry]] = [
        *(("monitor", monitor) for monitor in config.monitors),
        *(("sink", sink) for sink in config.sinks),
    ]
    for type_, entry in entries:
        where = f"{type_}s.{entry.name}"
        try:
            _options(_find(known, type_, entry.use, where), entry.options, where)
        except ConfigError as error:
            problems += error.problems
    verdict = config.monitoring.verdict.monitor
    names = [entry.name for entry in config.monitors]
    if names and verdict not in names:
        hint = suggestion(verdict, names)
        problems.append(f"`monitoring.verdict.monitor`: no monitor is called {verdict!r}{hint}")
    if problems:
        raise ConfigError("configuration", tuple(problems))


def _source(entry: EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
    return f"{package}: {entry.value}"


def _register(manager: Manager, source: str, plugin: object) -> None:
    """Register what has at least one hook, and no hook that does not exist.

    Raises:
        PluginError: it has not, or a hook takes what it is never given.
    """
    hooks = [name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None]
    for name in _HOOKS:
        if name not in hooks and hasattr(plugin, name):
            raise PluginError(source, f"{name} is not decorated with @monitorkit.hookimpl")
    for name in hooks:
        if name not in _HOOKS:
            raise PluginError(source, f"there is no hook {name!r}{suggestion(name, list(_HOOKS))}")
    if not hooks:
        raise PluginError(
            source, f"it defines neither {' nor '.join(_HOOKS)}, so it registers nothing"
        )
    try:
        manager.register(plugin, name=source)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(source, str(error)) from error


def _module_file(entry: EntryPoint) -> Path | None:
    """The file of what an entry point names; None: it has none, or is not there."""
    try:
        with contextlib.redirect_stdout(logs.Printed("monitorkit.plugins")):
            spec = importlib.util.find_spec(entry.module)
    except (Exception, SystemExit):  # noqa: BLE001 - loading it tells what is wrong
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()


def _load_file(path: Path) -> ModuleType:
    """Run a file as a module of its own, whatever other files are called.

    Raises:
        PluginError: it cannot be read, or raises.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PluginError(str(path), f"it cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"monitorkit_file_{re.sub('[^0-9A-Za-z_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise PluginError(str(path), "it is not a Python file; its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pydantic look their annotations up there
    try:
        # Not through the loader: its cache of compiled files misses an edit within one second.
        with contextlib.redirect_stdout(logs.Printed("monitorkit.plugins")):
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise PluginError(str(path), _told(error, path)) from error
    return module


def _told(error: BaseException, path: Path | None = None) -> str:
    """What an error says, and in which line of a file."""
    line, elsewhere = None, ""
    if isinstance(error, SyntaxError):
        line = error.lineno
        if path is not None and error.filename not in {None, str(path)}:
            elsewhere = f"{error.filename}, "
    elif path is not None:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(path)), None)
    text = error.msg if isinstance(error, SyntaxError) else said(error)
    where = f"{elsewhere}line {line}: " if line is not None else ""
    return f"{where}{type(error).__name__}: {text}" if text else f"{where}{type(error).__name__}"


def _registered(manager: Manager, source: str, plugin: object) -> Iterator[Kind]:
    """What the hooks of one plugin give.

    Raises:
        PluginError: when a hook raises, or gives anything but classes by kind.
    """
    for hook, (type_, base) in _HOOKS.items():
        if manager.parse_hookimpl_opts(plugin, hook) is None:
            continue
        try:
            classes = getattr(plugin, hook)()
        except (Exception, SystemExit) as error:
            raise PluginError(source, f"{hook} raised {_told(error)}") from error
        if not isinstance(classes, Mapping):
            raise PluginError(
                source, f"{hook} returned a {type(classes).__name__}; return {{kind: class}}"
            )
        for kind, cls in classes.items():
            problem = _wrong_with(kind, cls, base)
            if problem is not None:
                raise PluginError(source, f"{hook}: {problem}")
            yield Kind(kind, type_, source, _digest(cls), cls)


def _wrong_with(kind: object, cls: object, base: type[Any]) -> str | None:
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", kind, re.ASCII):
        return f"{kind!r} is not a kind; use letters, digits, `_`, `-` and `.`"
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        return f"{kind!r} is {cls!r}, not a class derived from monitorkit.{base.__name__}"
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cast("Any", cls).__abstractmethods__))
        return f"{kind!r}: the class {cls.__name__} does not define {missing}"
    options = cast("Any", cls).options_type
    if not (inspect.isclass(options) and issubclass(options, Options)):
        return f"{kind!r}: options_type is {options!r}, not a class derived from monitorkit.Options"
    return None


def _digest(cls: type[Any]) -> str:
    """SHA-256 of the files that define a class and those it is derived from; empty without any.

    But for ours, which summaries know by the version, and Python's own.
    """
    modules = (base.__module__ for base in cls.__mro__)
    ours_or_pythons = {"monitorkit", *sys.stdlib_module_names}
    files = (
        getattr(sys.modules.get(name), "__file__", None)
        for name in modules
        if name.partition(".")[0] not in ours_or_pythons
    )
    content = []
    for file in dict.fromkeys(files):
        with contextlib.suppress(OSError):  # it is in an archive
            content += [Path(file).read_bytes()] if file else []
    return hashlib.sha256(b"\0".join(content)).hexdigest() if content else ""


def _find(known: Sequence[Kind], type_: str, use: str, where: str) -> Kind:
    for kind in known:
        if (kind.type, kind.kind) == (type_, use):
            return kind
    names = [kind.kind for kind in known if kind.type == type_]
    problem = f"`{where}.use`: unknown {type_} {use!r}{suggestion(use, names)}"
    if any(kind.kind == use for kind in known if kind.type in {"monitor", "sink"}):
        problem += f" ({use!r} is the other: [[monitors]] use monitors, [[sinks]] use sinks)"
    broken = [kind for kind in known if kind.type == "broken"]
    if broken:
        told = "; ".join(f"{kind.kind} ({kind.source}): {kind.problem}" for kind in broken)
        problem += f". Not loaded: {told}"
    raise ConfigError("configuration", (problem,))


def _options(kind: Kind, given: Mapping[str, Any], where: str) -> Options:
    """Validate options; values are not repeated in errors, for they may be secrets."""
    try:
        options: Options = kind.cls.options_type.model_validate(given)
    except ValidationError as error:
        known = list(kind.cls.options_type.model_fields)
        problems = []
        for problem in error.errors(include_url=False):
            key = ".".join((where, "options", *map(str, problem["loc"])))
            if problem["type"] == "extra_forbidden":
                hint = suggestion(str(problem["loc"][-1]), known)
                problems.append(f"unknown key `{key}`{hint}")
            else:
                message = problem["msg"].removeprefix("Value error, ")
                problems.append(f"`{key}`: {message[:1].lower()}{message[1:]}")
        raise ConfigError("configuration", tuple(problems)) from error
    return options
