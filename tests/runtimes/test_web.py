"""Every encoding in onnxruntime-web, WebAssembly on one thread, in headless Chromium: ``make test-web``."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtimes.compare import assert_agrees
from tests.runtimes.files import SOURCES, files_of, large_files
from tests.runtimes.report import write_report
from tests.runtimes.wire import read_answers, write_job

WEB = Path(__file__).with_name("web")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(repository: Path) -> list[str | Path]:
    """The command that answers a job; `make test-web` installs what it needs."""
    chromium, packages = shutil.which("chromium"), repository / ".venv" / "web"
    if chromium is None or not (packages / "installed").exists():
        pytest.skip("needs Chromium, Node.js and npm packages: run `make test-web`, which installs them")
    return ["node", WEB / "browser.mjs", chromium, packages]


def test_outputs_and_folding(browser: list[str | Path], tmp_path: Path, repository: Path) -> None:
    large = list(large_files())
    files = large + [file for source in SOURCES for file in files_of(source)]
    write_job(tmp_path, files)
    done = subprocess.run([*browser, tmp_path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    version, answers = read_answers(done.stdout)
    for file, answer in zip(files, answers, strict=True):
        assert_agrees(file, answer.outputs)
    for file, answer in zip(large, answers, strict=False):
        # The optimised graph cannot be read here, but decoding a million weights takes far longer than using them.
        assert answer.run_ms < 5 * answer.dense_run_ms + 2, f"{file.name}: decoded at every inference"
    chromium = json.loads(done.stdout)["browser"]
    write_report(repository / "out" / "runtimes", f"onnxruntime-web {version} in Chromium {chromium}", files, answers)
