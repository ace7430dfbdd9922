"""Commands to set monitorkit up: `config`, `new-key`, `completion`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import rich_click as click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from monitorkit import config, keys
from monitorkit.cli.commands import PROGRAM, Ended, command, main
from monitorkit.errors import ConfigError

_SHELLS: Mapping[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@command("config", "config > my.toml", name="config", given="path")
def config_(config_path: Path | None) -> Ended:
    """Print the effective configuration: file and environment taken together."""
    settings = config.load(config_path)
    click.echo(config.to_toml(settings), nl=False)
    return Ended(settings.model_dump(mode="json", by_alias=True))


@command("new-key --name grafana --scopes read", given="nothing")
@click.option("--name", default="client", show_default=True, help="Whose key it is.")
@click.option(
    "--scopes",
    default=("predict",),
    show_default=True,
    multiple=True,
    help="What it may do, with commas between: predict, read, operate.",
)
def new_key(name: str, scopes: tuple[str, ...]) -> Ended:
    """Make an API key: print it, once, and the entry for the configuration, which has its hash."""
    granted = tuple(dict.fromkeys(scope.strip() for scope in ",".join(scopes).split(",")))
    key, entry = keys.new(name, granted)
    click.echo(f"Shown only now, and sent as `Authorization: Bearer KEY`:\n\n{key}\n")
    click.echo(f"For {config.DEFAULT_PATH}:\n\n{entry}", nl=False)
    return Ended({"name": name, "scopes": granted, "key": key, "entry": entry})


@command("completion bash > ~/.monitorkit-complete.bash", given="nothing", document=False)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, monitors and results.

    bash: `eval "$(monitorkit completion bash)"` in ~/.bashrc, or the file of the example below,
    sourced there. zsh: the same in ~/.zshrc. fish: into ~/.config/fish/completions/monitorkit.fish.
    """
    try:
        made = _SHELLS[shell](main, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
        click.echo(made.source())
    except RuntimeError as error:  # an old bash, or none
        raise ConfigError("completion", (str(error),)) from error
