"""Pack the records of an earlier version again: the same networks in smaller files.

    python -m benchmarks.records.repack FILE.onnx ..

Idle units are removed, and tensors share streams as they do now. A file and the sizes in its JSON are replaced if the
new file is smaller and its answers on the test images stay the same. ``repacked_from_bytes`` keeps the old size. A new
run of `benchmarks.records.run` would spend the saved bytes on more weights instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.records.evaluate import test_images
from benchmarks.records.run import file_error_percent, packed_for, payload_bytes
from sws_compress.file_options import FileOptions
from sws_compress.files import write_atomically
from sws_compress.onnx_io.read.model import read_model
from sws_compress.pipelines.expand import expand


def repack(path: Path) -> None:
    told_in = path.with_suffix(".json")
    figures = json.loads(told_in.read_text())
    images = test_images(figures["net"])
    if images is None:
        raise SystemExit(f"{path.name} must be checked on its test images, got none: set SWS_DATA_DIR")
    data = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(expand(path, Path(folder, "plain.onnx")).output)
    packed, palettes = packed_for(FileOptions(weight_names=False), model)
    if len(packed.data) >= len(data):
        print(f"{path.name}: {len(data):,} bytes, not smaller")
        return
    smaller = path.with_suffix(".repacked.onnx")
    write_atomically(smaller, packed.data)
    before, after = (file_error_percent(file, images) for file in (path, smaller))
    if after != before:
        raise SystemExit(f"{path.name} must answer as before, got {after} % errors for {before} %: see {smaller.name}")
    smaller.replace(path)
    payload = payload_bytes(packed, palettes)
    figures |= {
        "file_bytes": len(packed.data),
        "file_ratio": 4 * figures["parameters"] / len(packed.data),
        "payload_bytes": payload,
        "payload_ratio": 4 * figures["parameters"] / payload,
        "repacked_from_bytes": figures.get("repacked_from_bytes", len(data)),
    }
    write_atomically(told_in, (json.dumps(figures, indent=2) + "\n").encode())
    print(f"{path.name}: {len(data):,} to {len(packed.data):,} bytes, {after:.2f} % errors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        repack(path)


if __name__ == "__main__":
    main()
