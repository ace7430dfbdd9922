"""What every command has in common: help that teaches, JSON for scripts, one line for an error."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from monitorkit.cli import main
from monitorkit.cli.commands import CRASHED, REFUSED
from monitorkit.monitoring import calibration

COMMANDS = sorted(main.commands)
WITHOUT_OUTCOME = ["completion", "run", "ui"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_how_the_command_is_typed(name: str) -> None:
    command = main.commands[name]
    done = invoke(name, "--help")
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    assert f"monitorkit {name}" in shown
    assert "Examples:" in shown
    assert all(
        max(option.opts, key=len) in shown
        for option in command.params
        if isinstance(option, click.Option)
    )


def test_help_of_all_names_each_command_once_and_the_exit_codes() -> None:
    shown = invoke("--help").output
    assert [name for name in COMMANDS if shown.count(f"│ {name} ") != 1] == []
    assert "Exit codes: 0 done; 1 refused" in " ".join(shown.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_debug_and_what_has_an_outcome_has_json(name: str) -> None:
    options = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert "--debug" in options
    assert ("--json" in options) == (name not in WITHOUT_OUTCOME)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["config"], lambda it: it["monitoring"]["min_rows"] == 200),
        (["plugins"], lambda it: "anytime_drift" in {kind["kind"] for kind in it}),
        (["new-key", "--scopes", "read"], lambda it: it["key"] not in it["entry"]),
        (["verify-log"], lambda it: it["sound"] and it["segments"] == []),
        (["new-monitor", "mine"], lambda it: Path(it["plugin"]).exists()),
        (["status"], lambda it: it["service"]["answers"] is False),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_stdout_is_one_document_of_json(here: Path, arguments: list[str], told: Any) -> None:
    (here / "monitoring" / "predictions").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "monitorkit", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MONITORKIT_SERVING__PORT": "1"},
    )
    assert done.returncode in (0, 3), done.stderr
    (line,) = done.stdout.splitlines()
    assert told(json.loads(line))


def test_a_file_whose_name_is_no_text_is_in_the_document() -> None:
    folder = os.fsdecode(b"a\xff")
    done = invoke("new-monitor", "mine", "--folder", folder, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["plugin"] == f"{folder}/mine.py"
    assert Path(folder, "mine.py").exists()


def test_what_a_check_found_is_in_the_document_and_in_the_exit_code(here: Path) -> None:
    assert invoke("new-monitor", "mine").exit_code == 0
    check = ["check-plugin", "mine.py", "--options", "mine = { column = 'a', limit = 0 }"]
    check += ["--columns", "a", "--json"]
    sound = invoke(*check)
    assert (sound.exit_code, json.loads(sound.output)[0]["broken"]) == (0, [])
    text = (here / "mine.py").read_text(encoding="utf-8")
    assert "left.rows + right.rows" in text
    spoiled = text.replace("left.rows + right.rows", "left.rows")
    (here / "mine.py").write_text(spoiled, encoding="utf-8")
    broken = invoke(*check)
    assert broken.exit_code == REFUSED
    (kind,) = json.loads(broken.output)
    assert {law["law"] for law in kind["broken"]}


def test_an_error_is_one_event_on_stdout_or_on_stderr_with_json() -> None:
    for options, stream in (([], "stdout"), (["--json"], "stderr")):
        done = subprocess.run(
            [sys.executable, "-m", "monitorkit", "verify", *options],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == REFUSED
        said = {"stdout": done.stdout, "stderr": done.stderr}
        (line,) = said.pop(stream).splitlines()
        event = json.loads(line)
        assert (event["event"], event["error"]) == ("refused", "ReferenceMissing")
        assert set(said.values()) == {""}


@pytest.mark.parametrize("command", [["status"], ["report", "latest"]], ids=lambda c: c[0])
def test_results_that_cannot_be_read_are_an_error_of_one_line(
    here: Path, command: list[str]
) -> None:
    folder = here / "monitoring" / "metrics" / "monitoring_results"
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in its place")
    done = invoke(*command)
    assert done.exit_code == REFUSED
    event = json.loads(done.output)
    assert (event["event"], event["error"]) == ("refused", "ResultsUnreadable")
    assert "monitoring_results cannot be read: Not a directory" in event["reason"]
    assert "exception" not in event


def test_an_error_shows_its_place_only_with_debug() -> None:
    assert "Traceback" not in invoke("verify").output
    shown = subprocess.run(
        [sys.executable, "-m", "monitorkit", "verify", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in shown.stderr
    assert "ReferenceMissing" in shown.stderr


def test_a_bug_is_an_event_with_its_traceback_and_another_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(calibration, "run", fails)
    done = invoke("calibrate")
    assert done.exit_code == CRASHED
    event = json.loads(done.output)
    assert (event["event"], event["error"]) == ("crashed", "ZeroDivisionError")
    assert "in fails" in event["exception"]
    assert isinstance(invoke("calibrate", "--debug").exception, ZeroDivisionError)


def test_a_person_reads_one_line_of_a_bug(here: Path) -> None:
    script = shutil.which("script")
    if script is None:
        pytest.skip("script (util-linux), which gives a command a terminal, is not here")
    (here / "bug.py").write_text(
        "from monitorkit.cli import main\n"
        "from monitorkit.monitoring import calibration\n"
        "calibration.run = None\n"
        "main(['calibrate'])\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [script, "-qec", f"{sys.executable} bug.py", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == CRASHED
    assert "This is a bug: run it again with --debug" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("number", ["nan", "1e24", "inf", "0"])
def test_rows_a_day_that_are_no_number_are_a_wrong_option(number: str) -> None:
    assert invoke("calibrate", "--rows-per-day", number).exit_code == 2


def test_scopes_may_be_given_one_by_one() -> None:
    made = invoke("new-key", "--scopes", "predict", "--scopes", "read,operate", "--json")
    assert json.loads(made.output)["scopes"] == ["predict", "read", "operate"]


def test_a_sign_that_the_terminal_has_not_ends_no_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitorkit", "status"],
        capture_output=True,
        check=False,
        env={**os.environ, "MONITORKIT_SERVING__PORT": "1", "PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 3, done.stderr
    assert b"Not running" in done.stdout


def test_events_for_people_have_no_colours_in_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitorkit", "verify"],
        capture_output=True,
        check=False,
        env={**os.environ, "MONITORKIT_LOGGING__FORMAT": "console"},
    )
    assert b"refused" in done.stdout
    assert b"\x1b" not in done.stdout


def test_a_new_key_can_be_added_to_the_printed_configuration(here: Path) -> None:
    text = invoke("config").output
    made = json.loads(invoke("new-key", "--scopes", "read", "--json").output)
    (here / "my.toml").write_text(f"{text}\n{made['entry']}\n", encoding="utf-8")
    done = invoke("config", "--config", "my.toml", "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.output)["serving"]["keys"]) == 1


def test_ui_makes_the_store_whole_before_it_hands_it_to_mlflow(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow, stopped in its first second, would leave tables behind that nobody finishes."""
    found: list[str] = []

    def started(_: str, command: list[str]) -> None:
        with sqlite3.connect(here / "monitoring" / "mlflow" / "mlflow.db") as store:
            found.extend(
                name for (name,) in store.execute("SELECT version_num FROM alembic_version")
            )
        assert command[2:4] == ["mlflow", "ui"]

    monkeypatch.setattr(os, "execv", started)
    done = invoke("ui")
    assert done.exit_code == 0, done.output
    assert len(found) == 1
    assert list((here / "monitoring" / "mlflow").glob("*unfinished*")) == []


def test_ui_hands_mlflow_no_port_that_somebody_has(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here.exists()
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = invoke("ui", "--port", str(port))
    assert done.exit_code == 1
    assert f"127.0.0.1:{port} cannot be used" in done.output
    assert "Choose another one with --port" in done.output
    assert started == []


def test_a_wrong_option_ends_with_2() -> None:
    rate = ["simulate", "--rate", "nan"]
    for wrong in (["verify-log", "--nope"], ["nope"], ["monitor", "--json"], rate):
        assert invoke(*wrong).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(shell: str) -> None:
    done = invoke("completion", shell)
    assert done.exit_code == 0, done.output
    assert f"_MONITORKIT_COMPLETE={shell}_complete" in done.output


def complete(*words: str) -> list[str]:
    """What bash is told; the last word is the one that is being typed."""
    environment = {
        **os.environ,
        "_MONITORKIT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["monitorkit", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from monitorkit.cli import main; main(prog_name='monitorkit')"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_and_monitors_are_completed() -> None:
    assert set(complete("ver")) == {"verify", "verify-log"}
    assert complete("monitor", "--only", "feature-d") == ["feature-drift"]


def test_where_results_cannot_be_read_none_is_completed(here: Path) -> None:
    folder = here / "monitoring" / "metrics" / "monitoring_results"
    folder.mkdir(parents=True)
    assert complete("report", "la") == ["latest"]
    folder.rmdir()
    folder.write_text("a file in its place")
    assert "latest" not in complete("report", "la")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_command_whose_output_was_closed_does_its_work(here: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "monitorkit", "new-monitor", "mine", *options]
    script = 'exec "$@" >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *command], check=False)
    assert done.returncode == 0
    assert (here / "mine.py").exists()
