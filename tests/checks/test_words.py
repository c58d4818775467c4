"""The checker of docstrings finds those that begin in the middle of a sentence, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks.words import dangling_docstrings


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Of all symbols the head."""', [1]),
        ('class A:\n    """Where the clusters are."""', [2]),
        ('def f():\n    """\n    ``As`` above.\n    """', [2]),
        ('async def f():\n    def g():\n        """By weight."""', [3]),
        ('SIZE = 3\n"""With units."""\nclass A:\n    x: int = 0\n    """From 0."""', [2, 5]),
        ('"""Offsets of all symbols."""\ndef f():\n    """Whether it fits; of all of them."""', []),
        ('x = "Of course"\nprint("For you")  # Of no interest', []),
    ],
)
def test_first_words(tmp_path: Path, source: str, lines: list[int]) -> None:
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    (package / "room" / "module.py").write_text(source)
    found = dangling_docstrings(package)
    assert sorted(int(line.split(":")[1]) for line in found) == lines
    assert all(line.startswith("package/room/module.py:") for line in found)
