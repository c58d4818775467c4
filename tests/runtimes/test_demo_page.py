"""The page of docs/demo, used as a person would use it: digits are drawn and files dropped in headless Chromium."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

WEB = Path(__file__).with_name("web")
DRAWINGS = {
    "0": [[[0.5, 0.15], [0.3, 0.3], [0.28, 0.6], [0.5, 0.85], [0.7, 0.6], [0.7, 0.3], [0.5, 0.15]]],
    "1": [[[0.5, 0.15], [0.5, 0.85]]],
    "4": [[[0.35, 0.15], [0.3, 0.55], [0.75, 0.55]], [[0.65, 0.2], [0.6, 0.9]]],
    "7": [[[0.25, 0.2], [0.75, 0.2], [0.45, 0.85]]],
}
"""Strokes in shares of the pad."""

FILES = {
    "tests/runtimes/test_demo_page.py": "python",
    "docs/demo/page.mjs": "javascript",
    "docs/demo/index.html": "html",
    "docs/images/lenet_weights.png": "png",
}
WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def report(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    chromium, packages = shutil.which("chromium"), repository / ".venv" / "web"
    if chromium is None or not (packages / "installed").exists():
        pytest.skip("needs Chromium, Node.js and npm packages: run `make test-web`, which installs them")
    folder, pictures = tmp_path_factory.mktemp("page"), repository / "out" / "web-demo-pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    build = runpy.run_path(str(repository / "docs/demo/build.py"))["build"]
    build(folder, packages / "node_modules/onnxruntime-web/dist")
    files = [str(repository / name) for name in FILES]
    job = {"drawings": list(DRAWINGS.values()), "files": files, "widths": WIDTHS, "pictures": str(pictures)}
    command = ["node", WEB / "demo.mjs", chromium, packages, folder, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_digits_that_are_drawn_are_read(report: dict[str, Any]) -> None:
    assert report["digits"] == list(DRAWINGS)


def test_types_of_files_are_told(report: dict[str, Any]) -> None:
    assert [told.partition(" ")[0] for told in report["types"]] == list(FILES.values())


def test_the_small_network_stands_beside_the_plain_one(report: dict[str, Any]) -> None:
    head, download, *_ = report["tables"]["digits"]
    assert head == ["", "compressed", "plain"]
    small, plain = (int(text.removesuffix(" bytes").replace(",", "")) for text in download[1:])
    assert 150 * small < plain
    assert report["tables"]["file_types"][0] == ["", "compressed"]  # magika's own file was not given


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_cut_off(report: dict[str, Any]) -> None:
    assert report["elsewhere"] == []
    assert tuple(report["scroll_widths"]) == WIDTHS
