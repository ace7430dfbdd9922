"""What all commands share: `--config`, `--json` and `--debug`, an error in one line, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal, TextIO

import rich_click as click
from click.exceptions import Exit
from pydantic_core import to_jsonable_python

from monitorkit import __version__, config, logs
from monitorkit.errors import MonitorkitError, told
from monitorkit.redaction import redacted

REFUSED = 1
"""An error that says what is wrong, or a check that found something."""
SOME_REJECTED = 3
"""`import`: some rows do not fit. (2 is a wrong option, as click has it.)"""
NOT_RUNNING = 3
"""`status`: no service answers, as `systemctl status` has it."""
CRASHED = 70
"""A bug, of monitorkit or of a plugin: EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130  # as shells have it

PROGRAM = "monitorkit"

_BUG = "This is a bug: run it again with --debug, and report what that prints."

click.rich_click.MAX_WIDTH = 100
click.rich_click.STYLE_COMMANDS_TABLE_COLUMN_WIDTH_RATIO = (1, 4)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        document: what `--json` prints: anything that pydantic can turn into JSON.
        code: the exit code.
    """

    document: Any
    code: int = 0


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 refused, or a check found something; 2 wrong option; 3 `import`: "
    "some rows rejected, `status`: not running; 70 a bug; 130 interrupted.",
)
@click.version_option(__version__)
@click.command_panel("Serve", commands=["run", "status", "train", "promote", "ui"])
@click.command_panel("Watch", commands=["monitor", "report", "replay", "calibrate", "simulate"])
@click.command_panel("Keep", commands=["bootstrap", "verify", "verify-log", "import"])
@click.command_panel("Extend", commands=["plugins", "new-monitor", "check-plugin"])
@click.command_panel("Set up", commands=["config", "new-key", "completion"])
def main() -> None:
    """Serve a scikit-learn model and watch it.

    `python -m monitorkit run` is all that it takes: it trains a model and freezes a reference when
    there is none, answers predictions, and judges them every five minutes. Each command below
    explains itself with `--help`.
    """


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"A TOML file; {config.DEFAULT_PATH} when that is there.",
)
_debug_option = click.option(
    "--debug", is_flag=True, help="Show where in the code an error came from."
)
_json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON document on stdout; everything else goes to stderr.",
)

Given = Literal["settings", "path", "nothing"]


def command(
    *examples: str, name: str | None = None, given: Given = "settings", document: bool = True
) -> Callable[[Callable[..., Ended | None]], click.Command]:
    """A command: it reads the configuration, sets up the log, and reports what goes wrong.

    Args:
        examples: lines to type, for `--help`.
        name: the function's by default.
        given: what the function takes first: the configuration, the path of its file, or nothing.
        document: whether it has an outcome that `--json` can print.
    """

    def decorate(function: Callable[..., Ended | None]) -> click.Command:
        @wraps(function)
        def run(*, debug: bool, as_json: bool = False, **arguments: Any) -> None:
            _open_what_is_closed()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, TextIOWrapper):  # a sign that a terminal lacks ends nothing
                    stream.reconfigure(errors="replace")
            path = arguments.pop("config_path", None)
            with _aside(wanted=as_json) as (stdout, events), _told(events, debug=debug):
                first: tuple[Any, ...] = (path,) if given == "path" else ()
                if given == "settings":
                    settings = config.load(path)
                    form = "json" if as_json else settings.logging.format
                    logs.configure(settings.logging.level, form, events)
                    first = (settings,)
                ended = function(*first, **arguments) or Ended(None)
            if as_json:
                click.echo(redacted(_json(ended.document)), file=stdout)
            if ended.code:
                sys.exit(ended.code)

        decorated: Any = run
        if document:
            decorated = _json_option(decorated)
        decorated = _debug_option(decorated)
        if given != "nothing":
            decorated = config_option(decorated)
        shown = name or function.__name__.rstrip("_").replace("_", "-")
        return main.command(name=shown, epilog=_epilog(examples))(decorated)

    return decorate


def _open_what_is_closed() -> None:
    """Who started it may have closed its output (`>&-`): then what is written goes nowhere."""
    for descriptor, name in enumerate(("stdout", "stderr"), start=1):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", errors="replace"))


def _json(document: Any) -> str:
    """In one line; bytes of a file's name that are no text are escapes, which JSON has, too."""
    plain = to_jsonable_python(document, inf_nan_mode="null", fallback=str)
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace").decode()


def _epilog(examples: tuple[str, ...]) -> str | None:
    if not examples:
        return None
    return "\n\n".join(["Examples:", *(f"{PROGRAM} {line}" for line in examples)])


@contextmanager
def _aside(*, wanted: bool) -> Iterator[tuple[TextIO, TextIO]]:
    """Where the document goes and where events go: apart, while one is wanted.

    Then what is printed for people is dropped, and what other processes write to their stdout,
    which is ours, goes to stderr.
    """
    stdout = sys.stdout
    if not wanted:
        yield stdout, stdout
        return
    stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8", errors="replace") as nowhere,
            redirect_stdout(nowhere),
        ):
            yield stdout, sys.stderr
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _told(events: TextIO, *, debug: bool) -> Iterator[None]:
    """Turn what is raised into one line or one event, and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        logs.get(__name__).info("interrupted")
        sys.exit(INTERRUPTED)
    except (click.ClickException, Exit, click.Abort, BrokenPipeError):
        raise  # click's own
    except Exception as error:
        if debug:
            raise
        expected = isinstance(error, MonitorkitError)
        if events.isatty() and sys.stdout.isatty():
            text = str(error) if expected else f"{told(error)}. {_BUG}"
            click.secho(f"Error: {text}", fg="red", err=True)
        else:
            logs.configure(stream=events)
            log, fields = logs.get(__name__), {"error": type(error).__name__, "reason": str(error)}
            if expected:
                log.error("refused", **fields)  # noqa: TRY400 - the reason says it all
            else:  # nobody may be there to run it again
                log.exception("crashed", **fields)
        sys.exit(REFUSED if expected else CRASHED)
