"""Bytes of every encoding against the entropy, and what a file holds besides.

    python -m benchmarks.encodings.size [MODEL.onnx]

Of a million drawn symbols the payload in bits a weight, and all other bytes of a one-matrix file, for every encoding;
of a compressed MODEL, if one is named, the bytes of each tensor against its order-0 entropy. Writes JSON to
out/encodings/size.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.encodings.files import SHARES, codes, drawn, packed_model
from benchmarks.environment import environment
from sws_compress.graph.inspect import inspect_model

SHAPE = (1000, 1000)


def synthetic() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for data, shares in SHARES.items():
        symbols, codebook = drawn(shares, SHAPE[0] * SHAPE[1])
        occurring = np.bincount(symbols)[np.unique(symbols)] / symbols.size
        entropy = float(-(occurring * np.log2(occurring)).sum())
        for encoding, code in codes(symbols, codebook):
            payload = 8 * code.payload_bytes / symbols.size
            others = len(packed_model(code, SHAPE)) - code.payload_bytes
            rows.append(
                {"data": data, "encoding": encoding, "entropy": entropy, "payload": payload, "other_bytes": others}
            )
            print(
                f"{data:20} {encoding:26} {entropy:7.4f} {payload:8.4f} {100 * (payload / entropy - 1):8.2f} % "
                f"{others:7,}"
            )
    return rows


def of_file(path: Path) -> list[dict[str, object]]:
    inspection = inspect_model(path.read_bytes())
    rows: list[dict[str, object]] = []
    for row in inspection.rows:
        entropy = row.entropy_bits * row.size / 8
        rows.append({"name": row.name, "encoding": row.encoding, "entropy_bytes": entropy, "bytes": row.file_bytes})
        print(f"{row.name:20} {row.encoding:16} {entropy:10.0f} {row.file_bytes:8,}")
    print(f"shared {inspection.shared_bytes:,}, graph {inspection.graph_bytes:,}, file {inspection.file_bytes:,} bytes")
    return rows


def main() -> None:
    found: dict[str, object] = {"environment": environment(), "synthetic": synthetic()}
    if len(sys.argv) > 1:
        found["file"] = of_file(Path(sys.argv[1]))
    out = Path("out/encodings")
    out.mkdir(parents=True, exist_ok=True)
    (out / "size.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
