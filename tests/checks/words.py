"""Docstrings of the package say what a thing is or does; they do not begin in the middle of a sentence.

    python tests/checks/words.py

Prints one line per docstring that starts with a preposition or a conjunction ("Of all symbols ...") and exits with 1 if
there is one. Strings below constants and fields count as docstrings. How docstrings are laid out is ruff's affair.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PREPOSITIONS = r"Of|As|By|With|Without|In|Into|For|From|To|On|At|Beyond|Beside|Besides|Than"
CONJUNCTIONS = r"Where|Which|Whose|And|Or|But"
DANGLING = re.compile(rf"\W*({PREPOSITIONS}|{CONJUNCTIONS})\b")
"""First words that need something before them."""


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """All strings that are statements: docstrings, and those below constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def dangling_docstrings(folder: Path) -> list[str]:
    """One line per docstring in ``folder`` that begins with one of these words: file, line and the first words."""
    problems = []
    for path in sorted(folder.rglob("*.py")):
        for node in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            if first := DANGLING.match(str(node.value)):
                words = " ".join(str(node.value).split()[:6])
                problems.append(
                    f"{path.relative_to(folder.parent)}:{node.lineno}: docstring must not start with {first[1]!r}, "
                    f'got "{words} ...": say first what the thing is'
                )
    return problems


def main() -> int:
    problems = dangling_docstrings(ROOT / "sws_compress")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
