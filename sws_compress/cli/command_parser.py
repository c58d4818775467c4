"""What all commands have in common: parsers that report in one line, ``--json``, and results that are shown."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from sws_compress.terminal.printing import print_error, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    Commands = argparse._SubParsersAction["Parser"]


class Parser(argparse.ArgumentParser):
    """A parser that reports unreadable arguments in one line, as all other bad input is reported."""

    def error(self, message: str) -> NoReturn:
        print_error(f"{message}: see {self.prog} --help")
        self.exit(2)

    @property
    def options(self) -> dict[str, argparse.Action]:
        """All arguments by the names that users type, without dashes before them."""
        return {
            max(action.option_strings, key=len, default=action.dest).removeprefix("--"): action
            for action in self._actions
        }


def add_command(commands: Commands, name: str, summary: str, description: str) -> Parser:
    """Add a command that can print JSON.

    Parameters
    ----------
    commands : argparse action
        The commands of the program.
    name : str
        What the user types.
    summary : str
        Its line in the list of commands.
    description : str
        The beginning of its own help.

    Returns
    -------
    Parser
        The parser of its arguments, which takes ``--json`` and ``--verbose`` so far.
    """
    command = commands.add_parser(name, help=summary, description=description)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say on standard error what is done, and twice (-vv) what is done with every weight",
    )
    return command


def command_line(arguments: Sequence[str]) -> str:
    """What was typed, for a page that others read: absolute paths are names, which tell nothing of this machine.

    Examples
    --------
    >>> command_line(["compress", "/home/me/my net.onnx", "-o", "small.onnx", "--calibration=/data/x.npz"])
    "sws-compress compress 'my net.onnx' -o small.onnx --calibration=x.npz"
    """
    return shlex.join(["sws-compress", *map(_without_folders, arguments)])


def _without_folders(argument: str) -> str:
    if argument.startswith("--"):
        name, sign, value = argument.partition("=")
    else:
        name, sign, value = (argument[:2], "", argument[2:]) if argument.startswith("-") else ("", "", argument)
    return f"{name}{sign}{Path(value).name if Path(value).is_absolute() else value}"


class Result(Protocol):
    """What a command gives: rich prints it as a table."""

    def to_json(self) -> dict[str, Any]: ...

    def __rich__(self) -> RenderableType: ...


def show_result(options: argparse.Namespace, result: Result) -> int:
    """Print a result as JSON or as a table, as the user asks; returns exit code 0."""
    show(result.to_json(), result, as_json=options.json)
    return 0
