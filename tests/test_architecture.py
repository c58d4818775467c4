"""Imports point downwards: the rooms of the house stay apart, and no module needs itself."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "sws_compress"
SOURCE = Path(__file__).resolve().parent.parent / PACKAGE

# From the ground up. Rooms on one floor do not know each other; a new room is given its floor here.
FLOORS = (
    {"errors", "messages"},
    {
        "arguments",
        "child_process",
        "entropy",
        "files",
        "metric_sense",
        "module_modes",
        "packages",
        "terminal",
        "thresholds",
        "threads",
    },
    {"mixture", "codec", "onnx_io"},
    {"quantize", "calibrate", "ort"},
    {"packing", "train", "report"},
    {"file_options", "integrations", "requests"},
    {"pipelines"},
    {"api"},
    {"demo"},
    {"cli"},
    {"__main__", ""},  # "" is the package itself: inside, names are imported from where they live
)
# Steps inside a room, from the ground up; files and folders of one step do not know each other.
STEPS = {
    "onnx_io": (
        {"element_types", "traversal", "map_types", "native"},
        {"external_data", "rewrite"},
        {"format"},
        {"read", "analyse", "from_torch", "to_torch"},
        {"write"},
    )
}
# Rooms that are lower and still forbidden: training leaves snapped weights in a module and knows no file format.
FORBIDDEN = {("train", "codec"), ("train", "onnx_io"), ("train", "ort")}
# Rooms that take and return arrays.
ARRAY_ROOMS = ("mixture", "quantize", "calibrate", "codec")
FOREIGN_TO_ARRAYS = {"torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript"}


def name_of(path: Path, source: Path) -> str:
    parts = (source.name, *path.relative_to(source).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(source: Path) -> dict[str, Path]:
    return {name_of(path, source): path for path in sorted(source.rglob("*.py"))}


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """All modules that ``path`` imports, wherever in the file: ``from package import module`` is the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def floor(module: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return level
    raise AssertionError(f"{module} is in no room that FLOORS knows")


def upward_imports(source: Path) -> list[str]:
    known = modules(source)
    found = []
    for name, path in known.items():
        for target in imports(name, path, known):
            inside = target.split(".")[0] == source.name
            if inside and room(target) != room(name):
                if floor(target) >= floor(name) or (room(name), room(target)) in FORBIDDEN:
                    found.append(f"{name} imports {target}")
            elif room(name) in ARRAY_ROOMS and target.split(".")[0] in FOREIGN_TO_ARRAYS:
                found.append(f"{name} imports {target}")
    return found


def step(module: str) -> str:
    """The folder or file of a room that a module is in; "" for the room itself."""
    return module.partition(".")[2].partition(".")[2].partition(".")[0]


def upward_steps(source: Path) -> list[str]:
    """Imports inside a room that do not lead to a lower step of it."""
    known = modules(source)
    found = []
    for name, path in known.items():
        if not step(name) or room(name) not in STEPS:
            continue
        level = {part: number for number, parts in enumerate(STEPS[room(name)]) for part in parts}
        for target in imports(name, path, known):
            if target.split(".")[0] != source.name or room(target) != room(name) or step(target) == step(name):
                continue
            if not step(target) or level[step(target)] >= level[step(name)]:
                found.append(f"{name} imports {target}")
    return found


def order(source: Path) -> list[str]:
    """The modules, each after what it imports; ``graphlib.CycleError`` if there is no such order.

    The package's own ``__init__`` is left out: it names its public objects, and loads them when they are asked for.
    """
    known = modules(source)
    graph = {
        name: {target for target in imports(name, path, known) if target in known}
        for name, path in known.items()
        if name != source.name
    }
    return list(TopologicalSorter(graph).static_order())


def test_imports_point_downwards() -> None:
    assert upward_imports(SOURCE) == []


def test_steps_of_a_room_build_on_lower_ones() -> None:
    assert upward_steps(SOURCE) == []


def test_every_file_has_a_name_of_its_own() -> None:
    counts = Counter(path.name for path in SOURCE.rglob("*.py"))
    assert {name for name, count in counts.items() if count > 1} <= {"__init__.py"}


def test_no_import_cycle() -> None:
    assert set(order(SOURCE)) >= modules(SOURCE).keys() - {PACKAGE}


@pytest.mark.parametrize(
    ("file", "line", "allowed"),
    [
        ("codec/prefix.py", "from sws_compress.errors import ModelError", True),
        ("codec/prefix.py", "from . import radix", True),
        ("codec/prefix.py", "from ..mixture import em", False),
        ("codec/prefix.py", "def f():\n    import onnx.helper", False),
        ("mixture/em.py", "import sws_compress.onnx_io", False),
        ("train/loop.py", "from sws_compress.mixture.em import fit", True),
        ("train/loop.py", "from sws_compress import codec", False),
        ("train/loop.py", "from sws_compress import Mixture", False),
        ("files.py", "import sws_compress.api", False),
        ("cli/main.py", "from sws_compress.demo import run", True),
    ],
)
def test_the_rule_is_noticed(tmp_path: Path, file: str, line: str, allowed: bool) -> None:
    source = tmp_path / PACKAGE
    for name in ("cli", "mixture", "codec", "onnx_io", "train"):
        (source / name).mkdir(parents=True)
        (source / name / "__init__.py").touch()
    (source / file).write_text(line)
    assert (upward_imports(source) == []) is allowed


@pytest.mark.parametrize(
    ("file", "line", "allowed"),
    [
        ("write/strip.py", "from sws_compress.onnx_io.format.mark import Mark", True),
        ("write/strip.py", "from sws_compress.onnx_io.write.emission import Emission", True),
        ("read/model.py", "from ..traversal import nodes", True),
        ("read/model.py", "from sws_compress.onnx_io.analyse import weights", False),
        ("format/mark.py", "def f():\n    from sws_compress.onnx_io.read.model import read_model", False),
        ("traversal.py", "from sws_compress.onnx_io import format", False),
    ],
)
def test_the_order_of_steps_is_noticed(tmp_path: Path, file: str, line: str, allowed: bool) -> None:
    room = tmp_path / PACKAGE / "onnx_io"
    for name in ("format", "read", "analyse", "write"):
        (room / name).mkdir(parents=True)
        (room / name / "__init__.py").touch()
    (room / file).write_text(line)
    assert (upward_steps(tmp_path / PACKAGE) == []) is allowed


def test_a_cycle_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / PACKAGE
    (source / "codec").mkdir(parents=True)
    (source / "codec" / "__init__.py").write_text("from sws_compress.codec.radix import Code")
    (source / "codec" / "radix.py").write_text("def f():\n    from sws_compress.codec import Code")
    with pytest.raises(ValueError, match="cycle"):
        order(source)
