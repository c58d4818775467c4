"""Put the page together in a folder that any server of files can serve.

    python docs/demo/build.py OUTPUT --runtime DIR [--file-types magika.onnx]

DIR is ``dist`` of the npm package onnxruntime-web. The plain file beside the digits is exported here; that of the file
types is magika's ``model.onnx``. Without it the page leaves its column out.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from sws_compress.demo import DATA
from sws_compress.demo.lenet import load_lenet
from sws_compress.pipelines.source import dense_onnx

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "page.mjs", "pixels.mjs", "worker.mjs")
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def build(output: Path, runtime: Path, file_types: Path | None = None) -> None:
    """Write the page.

    Parameters
    ----------
    output : Path
        Folder; it is made, and files in it are replaced.
    runtime : Path
        ``dist`` of onnxruntime-web.
    file_types : Path, optional
        The plain network of file types.
    """
    for folder in ("models", "ort"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    for name in PAGE:
        shutil.copyfile(HERE / name, output / name)
    for path in (HERE / "models").iterdir():
        shutil.copyfile(path, output / "models" / path.name)
    for name in RUNTIME:
        shutil.copyfile(runtime / name, output / "ort" / name)
    lenet = load_lenet(DATA / "lenet_300_100.npz").eval()
    (output / "models/digits_plain.onnx").write_bytes(dense_onnx(lenet, torch.zeros(2, 784)))
    if file_types is not None:
        shutil.copyfile(file_types, output / "models/file_types_plain.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--runtime", type=Path, required=True, help="dist of the npm package onnxruntime-web")
    parser.add_argument("--file-types", type=Path, help="model.onnx of magika")
    arguments = parser.parse_args()
    build(arguments.output, arguments.runtime, arguments.file_types)


if __name__ == "__main__":
    main()
