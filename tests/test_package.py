"""The package's door: what it names, and that opening it is quick."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sws_compress
from sws_compress import errors

HEAVY = ("torch", "numba", "onnx", "onnxruntime", "scipy", "sklearn", "matplotlib")
START_SECONDS = 0.5


def fastest_start_seconds(*arguments: str) -> float:
    """Wall time of the fastest of five fresh interpreters: the others waited for a busy machine."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_import_leaves_heavy_packages_alone() -> None:
    program = f"import sys, sws_compress; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_import_is_quick() -> None:
    assert fastest_start_seconds("-c", "import sws_compress") < START_SECONDS


def test_every_public_name_has_one_home(repository: Path) -> None:
    source = (repository / "sws_compress" / "__init__.py").read_text(encoding="utf-8")
    homes = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sws_compress")
        for alias in node.names
    }
    assert {*homes, "__version__"} == set(sws_compress.__all__)
    lazy = {name: home for name, home in homes.items() if home != "sws_compress.errors"}
    assert lazy == sws_compress._HOMES


def annotations_of(thing: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A public function or class, its public methods and its properties, each with its annotations."""
    if inspect.isfunction(thing):
        yield thing, thing.__annotations__
    elif isinstance(thing, type):
        yield thing, {name: text for name, text in inspect.get_annotations(thing).items() if not name.startswith("_")}
        for name, member in vars(thing).items():
            if name == "__init__" or not name.startswith("_"):
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if inspect.isfunction(function):
                    yield thing, function.__annotations__


def names_of_types(module: ModuleType) -> dict[str, Any]:
    """What annotations of a module can name: its globals, and what it imports for type checkers alone."""
    names = dict(vars(module))
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                home = import_module(node.module)
                names[alias.asname or alias.name] = getattr(home, alias.name, None)
    return names


def types_in(hint: Any, names: dict[str, Any]) -> Iterator[type]:
    """All classes in an annotation; aliases are followed."""
    if isinstance(hint, typing.ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        for node in ast.walk(ast.parse(hint)):
            if isinstance(node, ast.Name) and node.id in names:
                yield from types_in(names[node.id], names)
    elif isinstance(hint, type):
        yield hint
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list) else [part]:
            yield from types_in(one, names)


def test_every_type_that_a_public_signature_names_is_public() -> None:
    """Protocols are left out: any object that fits will do."""
    missing = set()
    for name in set(sws_compress.__all__) - {"__version__"}:
        for owner, hints in annotations_of(getattr(sws_compress, name)):
            names = names_of_types(sys.modules[owner.__module__])
            for hint in hints.values():
                for kind in types_in(hint, names):
                    ours = kind.__module__.startswith("sws_compress.") and typing.Protocol not in kind.__bases__
                    if ours and kind.__name__ not in sws_compress.__all__:
                        missing.add((name, kind.__name__, kind.__module__))
    assert missing == set()


def test_everything_public_is_documented() -> None:
    for name in set(sws_compress.__all__) - {"__version__"}:
        thing = getattr(sws_compress, name)
        assert thing.__doc__, name
        assert not thing.__doc__.startswith(f"{name}("), f"{name} has the docstring that dataclasses make up"


def test_dir_names_what_is_not_loaded_yet() -> None:
    assert set(sws_compress.__all__) <= set(dir(sws_compress))


def test_version_is_the_one_in_setup_cfg(repository: Path) -> None:
    assert f"\nversion = {sws_compress.__version__}\n" in (repository / "setup.cfg").read_text(encoding="utf-8")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'decompress'"):
        _ = sws_compress.decompress


def test_errors_tell_their_exit_code() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {cls.__name__: cls.exit_code for cls in classes if cls.exit_code != 2} == {"VerificationError": 1}
    assert all(issubclass(cls, errors.SwsError) for cls in classes)
    assert {cls.__name__ for cls in classes} <= set(sws_compress.__all__)


@pytest.mark.parametrize("kind", [*errors.SwsError.__subclasses__()])
def test_messages_of_errors_hold_nothing_that_a_terminal_obeys(kind):
    """Names from files are in messages, and whoever catches an error prints it."""
    error = kind("tensor 'a\x1b[31m\x00\n\u202e\ud800b' must be é, got 1: export again")
    assert str(error) == r"tensor 'a\x1b[31m\x00\n\u202e\ud800b' must be é, got 1: export again"
    assert str(kind(str(error))) == str(error) == str(pickle.loads(pickle.dumps(error)))
