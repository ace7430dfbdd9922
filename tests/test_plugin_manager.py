"""Plugins: ours and everybody's come in by one door, and what is wrong with one is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitorkit import config, plugin_manager
from monitorkit.config import Config
from monitorkit.contracts import SinkContext
from monitorkit.errors import ConfigError, PluginError
from monitorkit.settings import MonitorEntry, SinkEntry
from monitorkit.testing import check_monitor, make_chunk

BUILT_IN = {
    "anytime_drift", "chi_square", "evidently_drift", "jensen_shannon", "ks", "missing_and_range",
    "proxy_metrics", "psi", "rule", "wasserstein",
}  # fmt: skip

MONITOR = """
    from __future__ import annotations
    from dataclasses import dataclass
    from monitorkit import Finding, Judgement, Monitor, Options, Sink, hookimpl

    class RowsOptions(Options):
        at_least: int = 1
        token: str = ""

    @dataclass(frozen=True)
    class Rows:
        rows: int

    class CountRows(Monitor[RowsOptions, Rows]):
        options_type = RowsOptions

        def summarise(self, chunk):
            return Rows(len(chunk))

        def merge(self, left, right):
            return Rows(left.rows + right.rows)

        def judge(self, timeline, previous):
            return Judgement([Finding("rows", timeline.all().rows)])

    class Nowhere(Sink):
        def deliver(self, result, document):
            pass
"""
HOOKS = """
    @hookimpl
    def monitorkit_monitors():
        return {"count_rows": CountRows}

    @hookimpl
    def monitorkit_sinks():
        return {"nowhere": Nowhere}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plugin file."""

    def write_file(*parts: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(dedent(part) for part in parts))
        return path

    return write_file


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package of somebody else: a module and its entry point."""
    before = set(sys.modules)

    def install_package(name: str, code: str, *, entry: str = "") -> None:
        site = tmp_path / "site"
        info = site / f"{name}-2.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[monitorkit]\n{entry or name} = {name}\n")
        (site / f"{name}.py").write_text(dedent(code))
        monkeypatch.syspath_prepend(site)

    yield install_package
    for module in set(sys.modules) - before:
        del sys.modules[module]


def kinds(*files: Path) -> list[plugin_manager.Kind]:
    return plugin_manager.kinds(plugin_manager.build(files))


def refusal(path: Path) -> str:
    """What is wrong with a file; it always names the file."""
    with pytest.raises(PluginError) as caught:
        kinds(path)
    assert str(path) in str(caught.value)
    return caught.value.problem


def a_config(**changes: Any) -> Config:
    entries = {"monitors": [{"name": "feature-drift", "use": "ks"}], **changes}
    return Config(**entries)


def test_ours_come_through_the_entry_point_group() -> None:
    found = kinds()
    assert {kind.kind for kind in found if kind.type == "monitor"} >= BUILT_IN
    assert {kind.kind for kind in found if kind.type == "sink"} >= {"mlflow"}
    ks = next(kind for kind in found if kind.kind == "ks")
    assert ks.source.startswith("monitorkit ")
    assert ks.source.endswith(": monitorkit_plugins.ks")
    assert len(ks.digest) == 64


def test_the_default_configuration_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    plugin_manager.check(kinds(), config.load())


def test_plugins_do_not_bring_heavy_libraries_along() -> None:
    code = """
        import sys
        from monitorkit import plugin_manager
        plugin_manager.kinds(plugin_manager.build())
        print(*sorted({"mlflow", "evidently", "pandas", "sklearn"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_file_brings_monitors_and_sinks(write: Write) -> None:
    path = write(MONITOR, HOOKS)
    mine = [kind for kind in kinds(path) if kind.source == str(path)]
    assert [(kind.type, kind.kind) for kind in mine] == [
        ("monitor", "count_rows"),
        ("sink", "nowhere"),
    ]
    entry = MonitorEntry(name="rows", use="count_rows", options={"at_least": 3})
    chunk = make_chunk()
    monitor = plugin_manager.make_monitor(mine, entry, chunk)
    assert monitor.options.at_least == 3
    assert monitor.reference is chunk
    check_monitor(monitor, chunk)
    context = SinkContext("sqlite:///x", None, "model", "reports")
    sink = plugin_manager.make_sink(mine, SinkEntry(name="away", use="nowhere"), context)
    assert sink.context is context


def test_the_documented_example_is_a_plugin() -> None:
    path = Path(__file__).parents[1] / "docs" / "examples" / "share_below.py"
    assert "share_below" in {kind.kind for kind in kinds(path) if kind.source == str(path)}


def test_files_of_one_name_and_with_odd_names_do_not_get_in_each_others_way(write: Write) -> None:
    one = write(MONITOR, HOOKS, name="a/my-monitor 1.py")
    two = write(
        MONITOR,
        HOOKS.replace("count_rows", "count_more").replace("nowhere", "nowhere_else"),
        name="b/my-monitor 1.py",
    )
    found = {kind.kind: kind for kind in kinds(one, two)}
    assert found["count_rows"].cls is not found["count_more"].cls
    assert found["count_rows"].source == str(one)


def test_a_file_named_twice_is_loaded_once(write: Write) -> None:
    path = write(MONITOR, HOOKS)
    assert [kind.kind for kind in kinds(path, path)].count("count_rows") == 1


def test_an_edit_counts_at_once_and_changes_the_digest(write: Write) -> None:
    def digest(extra: str) -> str:
        path = write(MONITOR, HOOKS, extra)
        return next(kind.digest for kind in kinds(path) if kind.kind == "count_rows")

    before = digest("# a")
    assert digest("# a") == before
    assert digest("# b") != before


def test_a_changed_base_in_another_module_changes_the_digest(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = write(
        "from my_counting_base import CountRows, hookimpl",
        "class Mine(CountRows): pass",
        "@hookimpl\ndef monitorkit_monitors(): return {'mine': Mine}",
    )

    def digest(extra: str) -> str:
        write(MONITOR, extra, name="my_counting_base.py")
        sys.modules.pop("my_counting_base", None)
        return next(kind.digest for kind in kinds(path) if kind.kind == "mine")

    try:
        before = digest("# a")
        assert digest("# a") == before
        assert digest("# b") != before
    finally:
        sys.modules.pop("my_counting_base", None)


def test_loading_a_file_leaves_nothing_beside_it(write: Write, tmp_path: Path) -> None:
    kinds(write(MONITOR, HOOKS))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.py")


def test_a_file_that_is_not_python_is_named(write: Write) -> None:
    assert "must end with .py" in refusal(write("x", name="monitor.txt"))


def test_a_syntax_error_of_a_helper_is_told_with_its_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = write("x = 1", "y = 2", "def broken(:", name="a_helper_of_mine.py")
    monkeypatch.syspath_prepend(helper.parent)
    assert refusal(write("import a_helper_of_mine")).startswith(f"{helper}, line 3: SyntaxError: ")


def test_a_syntax_error_is_told_with_its_line(write: Write) -> None:
    assert refusal(write("x = 1", "def broken(:")).startswith("line 2: SyntaxError: ")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module_x", "line 1: ModuleNotFoundError: No module named"),
        ("x = 1\ndef f(): return 1 / 0\nf()", "line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
        ("raise RuntimeError", "line 1: RuntimeError"),
    ],
)
def test_a_file_that_raises_is_told_with_its_line(write: Write, code: str, reason: str) -> None:
    before = set(sys.modules)
    assert refusal(write(code)).startswith(reason)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ("", "defines neither monitorkit_monitors nor monitorkit_sinks"),
        ("def monitorkit_sinks(): return {}", "not decorated with @monitorkit.hookimpl"),
        ("@hookimpl\ndef monitorkit_monitor(): return {}", "did you mean 'monitorkit_monitors'?"),
        ("@hookimpl\ndef monitorkit_monitors(config): return {}", "config"),
        ("@hookimpl\ndef monitorkit_monitors(): return 1 / 0", "ZeroDivisionError"),
        ("@hookimpl\ndef monitorkit_monitors(): raise SystemExit('no licence')", "no licence"),
        (
            (
                "class Mute(Exception):\n    def __str__(self): return self.args[9]\n"
                "@hookimpl\ndef monitorkit_monitors(): raise Mute"
            ),
            "Mute: (what it says cannot be told: IndexError)",
        ),
        ("@hookimpl\ndef monitorkit_monitors(): pass", "returned a NoneType"),
        ("@hookimpl\ndef monitorkit_monitors(): return [CountRows]", "returned a list"),
        ("@hookimpl\ndef monitorkit_monitors(): return {'a b': CountRows}", "'a b' is not a kind"),
        ("@hookimpl\ndef monitorkit_monitors(): return {7: CountRows}", "7 is not a kind"),
        ("@hookimpl\ndef monitorkit_monitors(): return {'x': int}", "not a class derived from"),
        ("@hookimpl\ndef monitorkit_monitors(): return {'x': Nowhere}", "monitorkit.Monitor"),
        ("@hookimpl\ndef monitorkit_sinks(): return {'x': CountRows}", "monitorkit.Sink"),
        ("@hookimpl\ndef monitorkit_sinks(): return {'x': Sink}", "does not define deliver"),
        ("@hookimpl\ndef monitorkit_sinks(): return {'x': Nowhere(None, None)}", "not a class"),
        (
            "Nowhere.options_type = dict\n@hookimpl\ndef monitorkit_sinks(): return {'x': Nowhere}",
            "options_type is <class 'dict'>",
        ),
    ],
)
def test_a_wrong_hook_is_told(write: Write, hooks: str, reason: str) -> None:
    assert reason in refusal(write(MONITOR, hooks))


def test_two_plugins_cannot_register_one_kind(write: Write) -> None:
    one, two = write(MONITOR, HOOKS, name="one.py"), write(MONITOR, HOOKS, name="two.py")
    with pytest.raises(PluginError) as caught:
        kinds(one, two)
    assert "'count_rows'" in str(caught.value)
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)
    taken = write(MONITOR, HOOKS.replace("count_rows", "ks"), name="three.py")
    assert "and so does monitorkit " in refusal(taken)


def test_a_monitor_and_a_sink_may_share_a_name(write: Write) -> None:
    path = write(MONITOR, HOOKS.replace("nowhere", "count_rows"))
    assert [kind.type for kind in kinds(path) if kind.kind == "count_rows"] == ["monitor", "sink"]


def test_a_package_comes_through_its_entry_point(install: Callable[..., None]) -> None:
    install("somebodys_monitors", MONITOR + HOOKS)
    found = {kind.kind: kind for kind in kinds()}
    assert found["count_rows"].source == "somebodys_monitors 2.1: somebodys_monitors"
    assert found["nowhere"].type == "sink"


def test_an_installed_file_can_be_given_as_well(
    install: Callable[..., None], tmp_path: Path
) -> None:
    """As `check-plugin` is, of a package that is worked on."""
    install("somebodys_monitors", MONITOR + HOOKS)
    file = tmp_path / "site" / "somebodys_monitors.py"
    found = {kind.kind: kind for kind in kinds(file)}
    assert found["count_rows"].source == str(file)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module_x", "No module named 'no_such_module_x'"),
        ("import sys; sys.exit(1)", "SystemExit: 1"),
        ("x = 1", "registers nothing"),
        (
            MONITOR + "\n    @hookimpl\n    def monitorkit_sinks(): return 1 / 0",
            "ZeroDivisionError",
        ),
        (MONITOR + "\n    @hookimpl\n    def monitorkit_sinks(): return {'x': 1}", "not a class"),
    ],
    ids=["import", "exit", "no hook", "raises", "no class"],
)
def test_a_broken_package_is_a_warning_until_it_is_used(
    install: Callable[..., None], code: str, reason: str
) -> None:
    install("somebodys_monitors", code, entry="count_rows")
    with capture_logs() as events:
        manager = plugin_manager.build()
        found = plugin_manager.kinds(manager)
        plugin_manager.kinds(manager)
    (event,) = events
    assert (event["log_level"], event["event"]) == ("warning", "plugin_not_loaded")
    assert event["source"] == "somebodys_monitors 2.1: somebodys_monitors"
    assert reason in event["reason"]
    assert {kind.kind for kind in found if kind.type == "monitor"} >= BUILT_IN
    assert (found[-1].type, found[-1].kind) == ("broken", "count_rows")
    plugin_manager.check(found, a_config())
    used = {"name": "feature-drift", "use": "count_rows"}
    with pytest.raises(ConfigError) as caught:
        plugin_manager.check(found, a_config(monitors=[used]))
    assert "unknown monitor 'count_rows'" in str(caught.value)
    assert reason in str(caught.value)


def test_every_problem_of_the_configuration_is_told_at_once(write: Write) -> None:
    found = kinds(write(MONITOR, HOOKS))
    with pytest.raises(ConfigError) as caught:
        plugin_manager.check(
            found,
            a_config(
                monitors=[
                    {"name": "a", "use": "kss"},
                    {"name": "b", "use": "ks", "options": {"false_alarm": 0.1}},
                    {"name": "c", "use": "ks", "options": {"false_alarm_rate": 2}},
                    {"name": "d", "use": "mlflow"},
                    {"name": "feature-drft", "use": "count_rows"},
                ],
                sinks=[{"name": "e", "use": "count_rows"}, {"name": "f", "use": "???"}],
            ),
        )
    a, b, c, d, e, f, verdict = caught.value.problems
    assert a == "`monitors.a.use`: unknown monitor 'kss'; did you mean 'ks'?"
    assert b.startswith("unknown key `monitors.b.options.false_alarm`; did you mean")
    assert c == "`monitors.c.options.false_alarm_rate`: input should be less than 1"
    assert "[[sinks]] use sinks" in d
    assert "[[monitors]] use monitors" in e
    assert f.startswith("`sinks.f.use`: unknown sink '???'; there are: ")
    assert "did you mean 'feature-drft'?" in verdict


def test_without_monitors_no_verdict_is_asked_for() -> None:
    plugin_manager.check(kinds(), a_config(monitors=[]))


def test_values_of_options_are_not_repeated(write: Write) -> None:
    found = kinds(write(MONITOR, HOOKS))
    entry = MonitorEntry(name="rows", use="count_rows", options={"token": 31337, "nope": "hush"})
    with pytest.raises(ConfigError) as caught:
        plugin_manager.make_monitor(found, entry, make_chunk())
    assert "monitors.rows.options.token" in str(caught.value)
    assert "31337" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_constructor_that_raises_raises(write: Write) -> None:
    init = """
        def __init__(self, options, reference):
            raise ArithmeticError("no such column")
        CountRows.__init__ = __init__
    """
    found = kinds(write(MONITOR, init, HOOKS))
    with pytest.raises(ArithmeticError, match="no such column"):
        plugin_manager.make_monitor(found, MonitorEntry(name="a", use="count_rows"), make_chunk())
