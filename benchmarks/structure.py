"""Sizes and imports of Python packages, read from their sources: how long files and functions are, what is in cycles.

    python -m benchmarks.structure sws_compress [FOLDER ..]

Every folder is a package; tests in it are left out. The columns of the table:

    files         modules
    largest file  lines of the longest module
    function      lines of a function or method from `def` to its end, without its docstring
    with doc      the same with the docstring
    parameters    of public functions and methods, `self` and `cls` not counted; of constructors where they are written
                  out
    in cycles     modules that import themselves by way of others, imports for type checkers alone not counted
    names twice   file names that occur in more than one folder
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Function = ast.FunctionDef | ast.AsyncFunctionDef

HEADINGS = (
    "package",
    "files",
    "largest file",
    "function p50/p90/p99",
    "with doc p50/p90/p99",
    "parameters p50/p90/max",
    "in cycles",
    "names twice",
)


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    lines: int


def read_package(folder: Path) -> dict[str, Module]:
    """Modules by their dotted names."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if any(part in ("test", "tests") or part.startswith("test_") for part in inside.parts):
            continue
        parts = (folder.name, *inside.with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8", errors="replace")
        found[name] = Module(name, path, ast.parse(text), text.count("\n"))
    return found


def functions(tree: ast.AST, public: bool = True) -> Iterator[tuple[Function, bool, bool]]:
    """All functions in a tree, nested ones too: each with whether it is public and whether it is a method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            named = public and (not node.name.startswith("_") or node.name == "__init__")
            yield node, named, isinstance(tree, ast.ClassDef)
            yield from functions(node, public=False)
        else:
            shown = public and not (isinstance(node, ast.ClassDef) and node.name.startswith("_"))
            yield from functions(node, shown)


def code_lines(node: Function) -> int:
    """Lines of a function without its docstring."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is None:
        return total
    return total - ((node.body[0].end_lineno or 0) - node.body[0].lineno + 1)


def parameters(node: Function, method: bool) -> int:
    """Parameters of a function; `self` and `cls` are not counted, `*args` and `**kwargs` are one each."""
    arguments = node.args
    count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
    static = any(isinstance(name, ast.Name) and name.id == "staticmethod" for name in node.decorator_list)
    return count + (arguments.vararg is not None) + (arguments.kwarg is not None) - (method and not static)


def imported(module: Module, known: dict[str, Module]) -> set[str]:
    """Modules of the package that a module imports, wherever in the file, but for type checkers alone."""
    found = set()
    pending: list[ast.AST] = [module.tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.name.split(".")[: -node.level + (module.path.stem == "__init__") or None]
                base = ".".join([*package, base]).rstrip(".")
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base)
    return (found & known.keys()) - {module.name}


def in_cycles(package: dict[str, Module]) -> set[str]:
    """Modules that lead back to themselves."""
    graph = {name: imported(module, package) for name, module in package.items()}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        pending = [*graph[start]]
        while pending:
            if (name := pending.pop()) not in seen:
                seen.add(name)
                pending += graph[name]
        return seen

    return {name for name in graph if name in reached(name)}


def quantiles(values: Sequence[int], shares: Sequence[float]) -> str:
    return " / ".join(f"{np.quantile(values, share):.0f}" for share in shares) if values else "-"


def row(folder: Path) -> tuple[str, ...]:
    """One line of the table."""
    package = read_package(folder)
    found = [entry for module in package.values() for entry in functions(module.tree)]
    longest = max(package.values(), key=lambda module: module.lines)
    names = Counter(module.path.name for module in package.values() if module.path.name != "__init__.py")
    return (
        folder.name,
        str(len(package)),
        f"{longest.lines} ({longest.path.name})",
        quantiles([code_lines(node) for node, *_ in found], (0.5, 0.9, 0.99)),
        quantiles([(node.end_lineno or 0) - node.lineno + 1 for node, *_ in found], (0.5, 0.9, 0.99)),
        quantiles([parameters(node, method) for node, public, method in found if public], (0.5, 0.9, 1.0)),
        str(len(in_cycles(package))),
        str(sum(count > 1 for count in names.values())),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="a package: the folder with its __init__.py")
    rows = [HEADINGS, *(row(folder.resolve()) for folder in parser.parse_args().folders)]
    print("\n".join("| " + " | ".join(cells) + " |" for cells in [rows[0], ["---"] * len(HEADINGS), *rows[1:]]))


if __name__ == "__main__":
    main()
