"""Measure the record files beside this script in stock ONNX Runtime and print the table of `README.md`.

    python -m benchmarks.records.evaluate [FILE.onnx ..]

LeNets run on the MNIST test images of the repository, and ResNets on the CIFAR-10 test images in SWS_DATA_DIR. Without
these, the errors of the ResNets are taken from their JSON. The files are ordinary ONNX, so the script needs neither the
torch networks nor the codecs of this package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.records.data import CIFAR_JPEG, MNIST, data_folder, load_cifar
from benchmarks.records.float_nets import as_images
from benchmarks.records.run import file_error_percent
from sws_compress.demo.mnist import Split, load_mnist

FOLDER = Path(__file__).resolve().parent
COLUMNS = ("file", "bytes", "ratio", "payload", "payload ratio", "float error %", "error %", "seed", "epochs")


def test_images(net: str) -> Split | None:
    if net.startswith("cifar"):
        return load_cifar(data_folder())[2] if (data_folder() / CIFAR_JPEG).exists() else None
    test = load_mnist(MNIST)[2]
    return as_images(test) if net == "lenet_5" else Split(test.images.flatten(1), test.labels)


def row(path: Path) -> list[str]:
    told: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    images = test_images(told["net"])
    error = told["test_error_percent"] if images is None else file_error_percent(path, images)
    size = path.stat().st_size
    return [
        path.stem,
        f"{size:,}",
        f"{4 * told['parameters'] / size:.1f}",
        f"{told['payload_bytes']:,}",
        f"{told['payload_ratio']:.1f}",
        f"{told['float_test_error_percent']:.2f}",
        f"{error:.2f}",
        str(told["options"]["seed"]),
        str(told["options"]["epochs"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    files = parser.parse_args().files or sorted(FOLDER.glob("*.onnx"))
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for path in files:
        print("| " + " | ".join(row(path)) + " |", flush=True)


if __name__ == "__main__":
    main()
