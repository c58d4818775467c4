"""Bytes of every encoding beside the entropy, and all other bytes of a file.

    python -m benchmarks.encodings.size [MODEL.onnx ..]

For a million random symbols: the payload of every encoding in bits per weight, and all other bytes of a file with one
matrix. For every plain MODEL, with its weights clustered to 16 values each: bytes of payloads, of codebooks and tables,
and of everything else that decodes (the overhead), in total and per tensor. Writes JSON to out/encodings/size.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.encodings.files import SHARES, codes, drawn, packed_model
from benchmarks.environment import environment
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.serialise import to_proto
from sws_compress.onnx_io.write.strip import strip
from sws_compress.packing.pack import find_palettes, pack
from sws_compress.quantize.cluster import cluster

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


def of_model(path: Path) -> dict[str, object]:
    model = ir.external_data.load_to_model(read_model(path))
    palettes = {weight.name: cluster(weight.values, 16, seed=0).palette for weight in find_weights(model, smallest=256)}
    for name, palette in palettes.items():
        model.graph.initializers[name].const_value = ir.tensor(palette.expand(), name=name)
    packed = pack(model, {**find_palettes(model), **palettes})
    network = model.clone()
    strip(network)
    for tensor in packed.tensors:
        network.graph.initializers.pop(tensor.name)
    streams = {tensor.members: tensor for tensor in packed.tensors}.values()
    payload = sum(tensor.payload_bytes for tensor in streams)
    tables = sum(tensor.table_bytes for tensor in streams)
    entropy = sum(palette.entropy_bits * palette.indices.size / 8 for palette in palettes.values())
    graph = to_proto(network).ByteSize()
    overhead = len(packed.data) - payload - tables - graph
    row: dict[str, object] = {
        "model": path.stem,
        "file_bytes": len(packed.data),
        "tensors": len(packed.tensors),
        "streams": len(streams),
        "entropy_bytes": round(entropy),
        "payload_bytes": payload,
        "table_bytes": tables,
        "network_bytes": graph,
        "overhead_bytes": overhead,
        "allowed_bytes": 1200 + 150 * len(packed.tensors),
    }
    print(
        *(f"{key} {value:,}" if isinstance(value, int) else value for key, value in row.items()), sep="  ", flush=True
    )
    return row


def main() -> None:
    found: dict[str, object] = {"environment": environment(), "synthetic": synthetic()}
    found["models"] = [of_model(Path(name)) for name in sys.argv[1:]]
    out = Path("out/encodings")
    out.mkdir(parents=True, exist_ok=True)
    (out / "size.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
