"""Examples in docstrings run, and show what they say they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sws_compress"
OPTIONAL = {"matplotlib", "PIL", "tensorboard", "transformers", "accelerate", "lightning", "pytorch_lightning"}
"""Packages of extras: where one is missing, the modules that need it are left out."""


def examples(path: Path) -> int:
    """Number of statements in a file that begin with the prompt."""
    return sum(line.lstrip().startswith(">>> ") for line in path.read_text(encoding="utf-8").splitlines())


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [path for path in sorted(PACKAGE.rglob("*.py")) if examples(path)], ids=module_name)
def test_examples(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(module_name(path))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0
    assert found.attempted == examples(path), "an example is in a docstring that doctest does not see"
