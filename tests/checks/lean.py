"""The package without its extras: what pip installs, how many bytes that is, and that it compresses a file.

    python tests/checks/lean.py

Builds the wheel, installs it with its dependencies into a fresh virtual environment (some 200 MB are downloaded, unless
pip has them), prints the installed sizes, and runs the commands for ONNX files there.
"""

from __future__ import annotations

import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

from wheel import ROOT, build_wheel, run

MODEL = """
import numpy as np, onnx
text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
model = onnx.parser.parse_model(text)
model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
onnx.save(model, "model.onnx")
np.savez("inputs.npz", x=np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32))
"""

COMMANDS = (
    "compress model.onnx -o small.onnx",
    "compress model.onnx -o calibrated.onnx --calibration inputs.npz",
    "inspect small.onnx --report small.html",
    "verify model.onnx small.onnx",
    "expand small.onnx -o dense.onnx",
)

LARGEST = 8
"""Packages whose sizes are printed."""


def installed_bytes(site_packages: Path) -> Counter[str]:
    """Bytes of all files by the folder or file that they are in."""
    found: Counter[str] = Counter()
    for path in site_packages.rglob("*"):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(site_packages).parts[0]
            found[name.partition("-")[0].removesuffix(".libs")] += path.stat().st_size
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, environment = build_wheel(folder), folder / "environment"
        venv.create(environment, with_pip=True)
        binaries = environment / "bin"
        (site_packages,) = environment.glob("lib/python*/site-packages")
        before = installed_bytes(site_packages)
        options = ("--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
        run(binaries / "python", "-m", "pip", "install", *options, wheel, cwd=folder)
        sizes = installed_bytes(site_packages) - before
        if unwanted := {"torch", "onnxscript", "sklearn", "matplotlib"} & set(sizes):
            raise SystemExit(f"the package installs {', '.join(sorted(unwanted))}, which belong to extras")
        run(binaries / "python", "-c", MODEL, cwd=folder)
        for command in COMMANDS:
            run(binaries / "sws-compress", *command.split(), cwd=folder)
    print(f"{wheel.name}: {sum(sizes.values()) / 1e6:.0f} MB installed, and compresses ONNX files")
    for package, count in sizes.most_common(LARGEST):
        print(f"  {package:16} {count / 1e6:6.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
