"""The package's door: what it names, and that opening it is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

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
