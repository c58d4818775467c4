"""``--config``: a TOML file that says what the command line can say, under the same names."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sws_compress.errors import ArgumentError
from sws_compress.messages import first_line, shown

if TYPE_CHECKING:
    from sws_compress.cli.command_parser import Parser

OVERRIDES = "overrides"
"""Name of the table of rules by pattern, which ``--set`` gives on the command line."""

PROJECT_FILE, PROJECT_TABLE = "pyproject.toml", "sws-compress"
"""The file of a Python project, and its table under ``tool`` that holds the options. It is read only where the command
line names it: options may name functions to be called, and a folder with a model may be anybody's."""

NOT_IN_FILES = ("help", "config", "verbose")
"""Options that a file cannot have."""


def with_config(options: argparse.Namespace, command: Parser, alternatives: Collection[str]) -> argparse.Namespace:
    """The options of the command line, and those of its ``--config`` that it does not give itself.

    Parameters
    ----------
    options : argparse.Namespace
        What the command line gives; flags that it does not give are None, False or empty.
    command : Parser
        The command, which knows the options.
    alternatives : collection of str
        Options of which one replaces the others. Options that may be repeated are put behind those of the file.

    Raises
    ------
    ArgumentError
        If the file cannot be read, has a key that is no option, or a value of another type.
    """
    if options.config is None:
        return options
    actions = {name: action for name, action in command.options.items() if name not in NOT_IN_FILES}
    found: dict[str, Any] = {}
    for key, value in _read(options.config).items():
        if key == OVERRIDES:
            found["set"] = [*found.get("set", []), *_rules(value, options.config)]
        elif key in actions:
            checked = _checked(key, value, actions[key], options.config)
            found[actions[key].dest] = [*found.get("set", []), *checked] if key == "set" else checked
        else:
            near = difflib.get_close_matches(key, [*actions, OVERRIDES], n=1, cutoff=0)[0]
            raise ArgumentError(
                f"key of --config {options.config} must be an option of compress, got {shown(key)}: "
                f"the nearest is {near}"
            )
    given = {name: value for name, value in vars(options).items() if is_given(value)}
    if any(name in given for name in alternatives):
        found = {name: value for name, value in found.items() if name not in alternatives}
    lists = {name: [*value, *given.get(name, [])] for name, value in found.items() if isinstance(value, list)}
    return argparse.Namespace(**{**vars(options), **found, **given, **lists})


def is_given(value: Any) -> bool:
    """Whether the user gave an option that has this value."""
    return value is not None and value is not False and value != []


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise ArgumentError(
            f"--config must be a file that can be read, got {path}, '{error.strerror}': check the path"
        ) from error
    except (ValueError, RecursionError) as error:  # of text that is no TOML, or no text
        raise ArgumentError(f"--config {path} must be TOML, got '{first_line(error)}': correct it") from error
    return found if path.name != PROJECT_FILE else _table_of_project(found, path)


def _table_of_project(found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The table of a project's file that is ours."""
    tools = found.get("tool")
    table = tools.get(PROJECT_TABLE) if isinstance(tools, Mapping) else None
    if not isinstance(table, dict):
        raise ArgumentError(
            f"--config {path} must have a table [tool.{PROJECT_TABLE}], got none: put the options there, or name "
            "another file"
        )
    return table


def _checked(key: str, value: Any, action: argparse.Action, path: Path) -> Any:
    """A value of the type that the option takes."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    rules = (
        (action.nargs == 0, "true or false", isinstance(value, bool)),
        (action.default == [], "a list of texts", isinstance(value, list) and all(isinstance(e, str) for e in value)),
        (action.type is int, "a whole number", number and isinstance(value, int)),
        (action.type is float, "a number", number),
        (True, "text", isinstance(value, str)),
    )
    rule, passes = next((rule, passes) for applies, rule, passes in rules if applies)
    if passes and action.choices is not None and value not in action.choices:
        rule, passes = f"one of {', '.join(map(str, action.choices))}", False
    if not passes:
        raise ArgumentError(f"{key} in --config {path} must be {rule}, got {shown(value)}: correct it")
    return action.type(value) if callable(action.type) else value


def _rules(table: Any, path: Path) -> list[str]:
    """The table of rules by pattern, as ``--set`` takes them."""
    if not isinstance(table, Mapping):
        raise ArgumentError(
            f"{OVERRIDES} in --config {path} must be a table, got {shown(table)}: write [{OVERRIDES}] above its lines"
        )
    found = []
    for pattern, rule in table.items():
        pairs = list(rule.items()) if isinstance(rule, Mapping) else []
        if len(pairs) != 1 or isinstance(pairs[0][1], Mapping):
            raise ArgumentError(
                f"{shown(pattern)} in {OVERRIDES} of --config {path} must have a quality or components, got "
                f"{shown(str(rule))}: write the pattern in quotes, and for example {{ quality = 35 }}"
            )
        found += [f"{pattern}={name}:{value}" for name, value in pairs]
    return found
