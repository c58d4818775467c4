"""Make ``models/file_types.onnx`` and ``.json``: magika's recogniser of file types, 8 times smaller.

    python docs/demo/file_types.py --folder DIR

DIR is a folder of ``python -m benchmarks.models.collect``, which gets the network from the package magika (Apache-2.0).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import sws_compress as sws
from benchmarks.models.calibration import calibration_of

MODELS = Path(__file__).parent / "models"
RATIO = 8.0
KEPT = ("beg_size", "end_size", "block_size", "padding_token", "target_labels_space")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder of `python -m benchmarks.models.collect`")
    folder = parser.parse_args().folder
    inputs = calibration_of("magika", Path(), folder)
    request = sws.Calibrated(inputs=inputs)
    sws.compress(folder / "magika.onnx", MODELS / "file_types.onnx", request, ratio=RATIO)
    config = json.loads((folder / "packages/magika/models/standard_v3_3/config.min.json").read_text())
    kept = {name: config[name] for name in KEPT}
    (MODELS / "file_types.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
