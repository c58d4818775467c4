"""Environments of the opponents: a virtual environment for each file of requirements, made once under a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of the environment of ``requirements-NAME.txt``, which is made if it is not there."""
    requirements = (HERE / f"requirements-{name}.txt").read_text(encoding="utf-8")
    home = folder / f"environment-{name}"
    made = home / "made-from.txt"
    if not (made.exists() and made.read_text(encoding="utf-8") == requirements):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--requirement"]
        subprocess.run([*pip, str(HERE / f"requirements-{name}.txt")], check=True)
        made.write_text(requirements, encoding="utf-8")
    return home.absolute() / "bin/python"


def run_in(python: Path, module: str, *arguments: str | Path, limit_seconds: float) -> str:
    """What a module of this folder prints in another environment; the last line of its errors is raised."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [str(python), "-m", f"benchmarks.models.opponents.{module}", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:  # for the files that some of them leave
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit_seconds, check=False
        )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1][:200])
    return done.stdout
