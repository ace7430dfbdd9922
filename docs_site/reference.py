"""The reference pages, made from the code: commands, configuration, endpoints, plugins."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import monitorkit
from monitorkit import config, environment, hookspecs, plugin_manager
from monitorkit.cli import main
from monitorkit.serving.guard import needed
from monitorkit.serving.openapi import document

_WIDTH = 88
_WORDS = {"timedelta": "duration", "ByteSize": "size", "Path": "path"}


def pages() -> dict[str, str]:
    """Markdown by the name of its page."""
    return {
        "commands": commands(),
        "configuration": configuration(),
        "endpoints": endpoints(),
        "plugins": plugins(),
    }


def commands() -> str:
    """Each command as its `--help` has it."""
    parts = [
        "# Commands",
        "Each is `python -m monitorkit COMMAND`, or `monitorkit COMMAND`: what `--help` says.",
    ]
    for name, command in sorted(main.commands.items()):
        parts += [f"## {name}", _fenced(_help(name, command), "text")]
    return _page(parts)


def _help(name: str, command: click.Command) -> str:
    """Click's plain help, without the boxes that a terminal gets."""
    context = click.Context(command, info_name=f"monitorkit {name}")
    formatter = click.HelpFormatter(width=_WIDTH)
    for part in (
        click.Command.format_usage,
        click.Command.format_help_text,
        click.Command.format_options,
        click.Command.format_epilog,
    ):
        part(command, context, formatter)
    return formatter.getvalue().strip()


def configuration() -> str:
    """Each key with type, default and variable; then the commented file."""
    parts = [
        "# Configuration",
        (
            f"One TOML file, `{config.DEFAULT_PATH}` when `--config` names no other. Every key has "
            "an environment variable that wins over the file; tables and lists are JSON there. "
            "An unknown key or variable is an error."
        ),
    ]
    for table, model in _tables(config.Config):
        parts += [f"## {table}", _first(model), _keys(table, model)]
    parts += ["## The default file", _fenced(config.default_text(), "toml")]
    return _page(parts)


def endpoints() -> str:
    """Each endpoint of the OpenAPI document; the running service has the schemas of its model."""
    whole = document(None, config.Config())
    parts = [
        "# Endpoints",
        (
            "From the OpenAPI document. A running service has it at `/openapi.json`, with the "
            "columns of the model that it serves, and to try at `/docs`."
        ),
    ]
    for tag in whole["tags"]:
        parts.append(f"## {tag['name'].capitalize()}")
        for path, operations in whole["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    parts += _operation(whole, path, method, operation)
    return _page(parts)


def plugins() -> str:
    """Hooks, kinds with their options, and what a plugin imports."""
    parts = [
        "# Hooks, kinds and the plugin API",
        "How to write a monitor or a sink: [plugins.md](../plugins.md).",
        "## Hooks",
    ]
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("monitorkit_"):
            parts += [f"### {name}", _fenced(_signature(name, hook), "python"), _doc(hook)]
    parts.append("## Kinds and their options")
    for kind in plugin_manager.kinds(plugin_manager.build()):
        parts += [f"### {kind.kind}", f"A {kind.type} of {kind.source}. {_first(kind.cls)}"]
        parts.append(_keys("options", kind.cls.options_type) or "It has no options.")
        parts.append(_doc(kind.cls.options_type))
    parts.append("## What a plugin imports from `monitorkit`")
    for name in monitorkit.__all__:
        parts += _public(name, getattr(monitorkit, name))
    return _page(parts)


def _page(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _tables(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table of the file, by its header, and its model."""
    for key, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            continue
        origin = get_origin(field.annotation)
        path = f"{name}{field.alias or key}{'.FEATURE' if origin is dict else ''}"
        yield (f"[[{path}]]" if origin is tuple else f"[{path}]"), section
        yield from _tables(section, f"{path}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section(argument) for argument in getattr(annotation, "__args__", ()))
    return next((section for section in found if section is not None), None)


def _keys(table: str, model: type[BaseModel]) -> str:
    """The keys of a table, without those that are tables themselves."""
    plain = {
        field.alias or key: field
        for key, field in model.model_fields.items()
        if _section(field.annotation) is None
    }
    if not plain:
        return ""
    single = table.startswith("[") and not table.startswith("[[") and "FEATURE" not in table
    rows = [
        "| key | type | default |" + (" variable |" if single else ""),
        "|---|---|---|" + ("---|" if single else ""),
    ]
    defaults = _defaults(model)
    for key, field in plain.items():
        variable = environment.PREFIX + "__".join([*table.strip("[]").split("."), key]).upper()
        row = f"| `{key}` | {_cell(_type(field))} | {_cell(defaults.get(key))} |"
        rows.append(f"{row} `{variable}` |" if single else row)
    return "\n".join(rows)


def _cell(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _type(field: FieldInfo) -> str:
    """The annotation as it is written, and its bounds."""
    written = field.annotation
    text = written.__name__ if isinstance(written, type) else str(written)
    text = re.sub(r"\b(typing|pathlib|datetime|collections\.abc|pydantic\.types)\.", "", text)
    for name, word in _WORDS.items():
        text = text.replace(name, word)
    bounds = [re.sub(r"^(\w+)\((.*)\)$", r"\2", repr(rule)) for rule in field.metadata]
    shown = [bound for bound in bounds if re.match(r"(gt|ge|lt|le|min_length)=", bound)]
    return ", ".join([text, *shown])


def _defaults(model: type[BaseModel]) -> Mapping[str, str]:
    """Defaults as the file would have them; without those that there are none of."""
    found = model.model_construct().model_dump(mode="json", by_alias=True)
    return {key: "" if value is None else json.dumps(value) for key, value in found.items()}


def _operation(
    whole: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> list[str]:
    scopes = needed(path)
    parts = [
        f"### {method.upper()} {path}",
        f"{operation['summary']}. {operation.get('description', '')}".strip(),
        f"With keys: {' or '.join(f'`{scope}`' for scope in scopes) or 'open to everybody'}.",
    ]
    parameters = [
        f"- `{one['name']}` ({one['in']}): {one.get('description', '')}".rstrip(": ")
        for one in operation.get("parameters", ())
    ]
    if parameters:
        parts.append("\n".join(parameters))
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        parts.append("Body: " + ", ".join(f"`{media}`" for media in body) + ".")
    rows = ["| status | |", "|---|---|"]
    for status, answer in operation["responses"].items():
        said = answer
        if "$ref" in answer:
            said = whole["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        rows.append(f"| {status} | {_line(said['description'])} |")
    return [*parts, "\n".join(rows)]


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _public(name: str, thing: Any) -> list[str]:
    parts = [f"### {name}"]
    if inspect.isclass(thing):
        parts.append(_doc(thing))
        for method, member in vars(thing).items():
            if not method.startswith("_") and inspect.isfunction(member):
                parts += [_fenced(_signature(method, member), "python"), _doc(member)]
    elif callable(thing) and inspect.isfunction(thing):
        parts += [_fenced(_signature(name, thing), "python"), _doc(thing)]
    elif isinstance(thing, str):
        parts.append(f"`{thing!r}`")
    else:
        parts.append("The decorator of hooks, [pluggy](https://pluggy.readthedocs.io/)'s marker.")
    return parts


def _signature(name: str, function: Any) -> str:
    """As it is called; annotations are text here, and need no quotes."""
    return name + re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))


def _first(thing: Any) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _doc(thing: Any) -> str:
    """A docstring: its text, and its sections as lists."""
    parts: list[str] = []
    for paragraph in (inspect.getdoc(thing) or "").split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|References):", head):
            parts.append(f"{head.removesuffix(':')}:")
            parts.append(_listed(inspect.cleandoc(rest)))
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


def _listed(text: str) -> str:
    """One item for each line that is not indented."""
    items: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(f"- {line.strip()}")
    return "\n".join(items)
