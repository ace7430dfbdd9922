"""`new-monitor`: what it writes works as it is, and it overwrites nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from difflib import ndiff
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitorkit import new_monitor, plugin_manager
from monitorkit.cli import main
from monitorkit.config import Config, default_text, load
from monitorkit.errors import ConfigError, PluginError

ROOT = Path(__file__).parents[1]


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MYPYPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def test_the_test_that_it_writes_passes_as_written(tmp_path: Path) -> None:
    new_monitor.write("late_payers", tmp_path)
    # Outside a project pytest-asyncio warns of a setting that it misses.
    alone = ("-p", "no:cacheprovider", "-p", "no:asyncio")
    done = python("-m", "pytest", "-q", "-W", "error", *alone, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.slow
def test_the_files_are_typed_and_formatted(tmp_path: Path) -> None:
    new_monitor.write("late_payers", tmp_path)
    for line in (tmp_path / "late_payers.py").read_text().splitlines():
        assert len(line) <= 100
    mypy = python(
        "-m", "mypy", "--strict", "--follow-imports=silent", "late_payers.py", folder=tmp_path
    )
    assert mypy.stdout.startswith("Success"), mypy.stdout + mypy.stderr


def test_the_command_tells_what_it_wrote_and_the_entry_is_valid(tmp_path: Path) -> None:
    folder = tmp_path / 'odd "folder"'
    done = CliRunner().invoke(main, ["new-monitor", "late_payers", "--folder", str(folder)])
    assert done.exit_code == 0, done.output
    assert f"Written: {folder / 'late_payers.py'}" in done.output
    entry = new_monitor.write("late_payers_2", folder).entry
    tables = tomllib.loads(entry)
    tables["monitoring"]["verdict"] = {"monitor": "late-payers-2"}
    config = Config(**tables)
    assert config.monitoring.plugin_files == (folder / "late_payers_2.py",)
    assert "late_payers_2" in {kind.kind for kind in plugin_manager.checked(config)}


@pytest.mark.parametrize("there", ["late_payers.py", "test_late_payers.py"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(PluginError, match="it is there already"):
        new_monitor.write("late_payers", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_in_the_folder_where_one_stands_it_is_no_module_of_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "late_payers").mkdir()  # any folder is a namespace
    new_monitor.write("late_payers", Path())
    with pytest.raises(PluginError, match="it is there already"):
        new_monitor.write("late_payers", Path())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Late-Payers", "such as late_payers"),
        ("../evil", "such as evil"),
        ("2fast", "small letters, digits"),
        ("", "small letters, digits"),
        ("a" * 61, "up to 60"),
        ("class", "choose another, such as class_monitor"),
        ("json", "choose another, such as json_monitor"),
        ("numpy", "Python has a module"),
        (
            "finding",
            "called Finding, as one of monitorkit's; choose another, such as finding_monitor",
        ),
        ("judgement", "called Judgement, as one of monitorkit's"),
        ("ks", "has that kind; choose another, such as my_ks"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(PluginError) as caught:
        new_monitor.write(name, tmp_path / "new")
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(
        main, ["new-monitor", "late_payers", "--folder", str(tmp_path / "file" / "x")]
    )
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "Choose another --folder" in done.output


def added(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    arguments = ["new-monitor", "late_payers", "--folder", str(tmp_path / "plugins"), "--add"]
    done = CliRunner().invoke(main, [*arguments, "--config", str(path)])
    assert done.exit_code == 0, done.output
    assert f"Added to {path}" in done.output
    return path.read_text(encoding="utf-8")


def test_the_entry_is_added_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    text = default_text()
    after = added(tmp_path, text)
    changes = [line for line in ndiff(text.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert changes == [
        "- plugin_files = []",
        f'+ plugin_files = ["{tmp_path}/plugins/late_payers.py"]',
        "+ ",
        "+ [[monitors]]",
        '+ name = "late-payers"',
        '+ use = "late_payers"',
        '+ options = { column = "age", limit = 21 }',
    ]
    loaded = load(tmp_path / "my.toml")
    assert "late_payers" in {kind.kind for kind in plugin_manager.checked(loaded)}
    assert len(loaded.monitors) == len(Config(**tomllib.loads(text)).monitors) + 1


@pytest.mark.parametrize("beside", ["", "[monitoring]\nmin_rows = 9\n", '[log]\ninstance = "a"\n'])
def test_it_is_added_to_short_files(tmp_path: Path, beside: str) -> None:
    added(tmp_path, f'{beside}[[monitors]]\nname = "feature-drift"\nuse = "ks"  # mine\n')
    loaded = load(tmp_path / "my.toml")
    plugin_manager.checked(loaded)
    assert [entry.name for entry in loaded.monitors] == ["feature-drift", "late-payers"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("[monitoring]\n", "has no [[monitors]], so the default ones run"),
        ('[[monitors]]\nname = "late-payers"\nuse = "ks"\n', "has a monitor 'late-payers' already"),
        ("[[monitors]\n", "is not valid TOML"),
        ("monitors = []\n", "write each as [[monitors]]"),
        ('monitors = [{ name = "d", use = "ks" }]\n', "write each as [[monitors]]"),
    ],
)
def test_a_file_that_cannot_take_the_entry_is_refused(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "my.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        new_monitor.write("late_payers", tmp_path / "new", path)
    assert reason in str(caught.value)
    assert not (tmp_path / "new").exists()
    assert text is None or path.read_text() == text


def test_a_package_is_refused_for_its_test_could_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    with pytest.raises(PluginError, match=r"has an __init__\.py"):
        new_monitor.write("late_payers", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["__init__.py"]


def test_a_kind_of_a_plugin_file_of_the_configuration_is_refused(tmp_path: Path) -> None:
    new_monitor.write("late_payers", tmp_path / "old")
    path = tmp_path / "my.toml"
    files = f'plugin_files = ["{tmp_path}/old/late_payers.py"]'
    text = f'[monitoring]\n{files}\n[[monitors]]\nname = "feature-drift"\nuse = "ks"\n'
    path.write_text(text)
    with pytest.raises(PluginError, match="has that kind; choose another, such as my_late_payers"):
        new_monitor.write("late_payers", tmp_path / "new", path)
    assert path.read_text() == text
    assert not (tmp_path / "new").exists()


def test_a_plugin_file_that_was_removed_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    files = f'plugin_files = ["{tmp_path}/new/late_payers.py"]'
    path.write_text(f'[monitoring]\n{files}\n[[monitors]]\nname = "feature-drift"\nuse = "ks"\n')
    new_monitor.write("late_payers", tmp_path / "new", path)
    loaded = load(path)
    plugin_manager.checked(loaded)
    assert loaded.monitoring.plugin_files == (tmp_path / "new" / "late_payers.py",)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_the_mode_of_the_configuration_stays_and_a_link_to_it_too(
    tmp_path: Path, mode: int
) -> None:
    path, link = tmp_path / "real" / "my.toml", tmp_path / "my.toml"
    path.parent.mkdir()
    path.write_text(default_text())
    path.chmod(mode)
    link.symlink_to(path)
    before = path.stat()
    new_monitor.write("late_payers", tmp_path / "plugins", link)
    after = path.stat()
    assert link.readlink() == path
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip
    assert load(link).monitors[-1].name == "late-payers"
    assert [each.name for each in path.parent.iterdir()] == ["my.toml"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_as_they_did(tmp_path: Path, end: str) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(default_text().replace("\n", end).encode())
    new_monitor.write("late_payers", tmp_path / "plugins", path)
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert {line.endswith(b"\r") for line in lines} == {end == "\r\n"}
    assert load(path).monitors[-1].name == "late-payers"
