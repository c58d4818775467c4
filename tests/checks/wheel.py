"""The built wheel holds the whole package, and its command line answers.

    python tests/checks/wheel.py

Builds the wheel from a copy of the sources, so that nothing left in the tree gets in, installs it into a fresh virtual
environment that borrows the dependencies of the environment running this script, imports every module from there and
asks the command line for its help and version.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "sws_compress")

IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys, sws_compress
assert sys.prefix in sws_compress.__file__, sws_compress.__file__
for name in ("py.typed", "report/page/page.html", "report/page/page.css", "report/page/page.js"):
    assert (pathlib.Path(sws_compress.__file__).parent / name).exists(), name
for module in pkgutil.walk_packages(sws_compress.__path__, "sws_compress."):
    importlib.import_module(module.name)
for name in sws_compress.__all__:
    getattr(sws_compress, name)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed; run away from the tree, so that nothing is imported from it."""
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def build_wheel(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """The environment's ``bin`` folder, with the wheel installed from its own files and the rest borrowed."""
    venv.create(environment, with_pip=True)
    binaries = environment / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=environment)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        binaries = install(wheel, folder / "environment")
        run(binaries / "python", "-c", IMPORT_EVERYTHING, cwd=folder)
        help_text = run(binaries / "sws-compress", "--help", cwd=folder)
        version_text = run(binaries / "sws-compress", "--version", cwd=folder)
    version = wheel.name.split("-")[1]
    if version not in version_text or "compress" not in help_text:
        raise SystemExit(f"the command line of {wheel.name} answered {version_text!r} and {help_text!r}")
    print(f"{wheel.name}: installs, imports, and answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
