"""The program: reads the arguments, runs one command, and returns its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sws_compress.cli.check_command import add_check
from sws_compress.cli.command_parser import Parser
from sws_compress.cli.compress_command import add_compress
from sws_compress.cli.demo_command import add_demo
from sws_compress.cli.reading_commands import add_expand, add_inspect, add_picture, add_verify
from sws_compress.errors import SwsError
from sws_compress.terminal.printing import (
    log_on_standard_error,
    occupy_standard_streams,
    print_error,
    silence_libraries,
    silence_standard_output,
)

SHELLS = ("bash", "zsh", "tcsh")
"""Shells that completion is printed for."""

BROKEN_PIPE = 141
"""Exit code: 128 plus the signal's number, as a shell reports a program that a signal has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 done, 1 verification or a check failed, 2 bad input, 130 interrupted, 143 terminated.
    """
    occupy_standard_streams()
    silence_libraries()
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given, argparse.Namespace(arguments=given))
    try:
        with log_on_standard_error(options.verbose):
            code: int = options.run(options)
            return code
    except SwsError as error:
        print_error(str(error))
        return error.exit_code
    except MemoryError:
        print_error(
            "memory must hold the model and some copies of its largest tensor, got too little: "
            "end other programs, or take a machine with more"
        )
        return SwsError.exit_code
    except BrokenPipeError:
        silence_standard_output()
        return BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sws-compress",
        description="Make pretrained networks many times smaller: an ordinary .onnx file out, for stock ONNX Runtime.",
        epilog="Exit codes: 0 done, 1 verification or a check failed (nothing was replaced), 2 bad input, "
        "130 interrupted, 143 terminated.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=SHELLS,
        metavar="SHELL",
        help=f"print the script that completes commands and options, and leave: {', '.join(SHELLS)}",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (add_compress, add_inspect, add_picture, add_verify, add_check, add_expand, add_demo):
        add(commands)
    return parser


class _Completion(argparse.Action):
    """Print the script that a shell completes commands with; paths complete to files."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, values: object, *__: object) -> None:
        import shtab

        for command in (parser, *_commands(parser)):
            for action in command._actions:
                if action.type is Path:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, str(values)))
        parser.exit()


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


class _Version(argparse.Action):
    """Print the version; it is looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import version

        print(f"sws-compress {version('sws-compress')}")
        parser.exit()
