"""Make one opponent's file, in the environment of `requirements-onnx.txt`.

    python -m benchmarks.models.opponents.onnx_worker VARIANT MODEL.onnx FEEDS.npz TARGET.onnx
    python -m benchmarks.models.opponents.onnx_worker size FILE

The target is a model that runs. Where it is only the decoded form of what would be sent, ``TARGET.onnx.sent`` holds
that code and the rest of the model's file.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.models.opponents.tensors import float_tensors, with_tensors, without_tensors

LEAST_WEIGHTS = 1024
"""Smaller tensors stay as they are where the opponent has no rule of its own."""


SCALES_PER_CHANNEL = 13
"""First operator set whose ``DequantizeLinear`` takes scales per channel."""


def feeds_of(path: Path) -> list[dict[str, Any]]:
    """Sets of inputs in an .npz file, with names ``number/input``."""
    found: dict[int, dict[str, Any]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            found.setdefault(int(number), {})[name] = arrays[key]
    return [found[number] for number in sorted(found)]


def int8_dynamic(model: Path, feeds: Path, target: Path, *, per_channel: bool) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, target, per_channel=per_channel)


def int8_static(model: Path, feeds: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[dict[str, Any]] = iter(feeds_of(feeds))

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        per_channel = onnx.load(prepared).opset_import[0].version >= SCALES_PER_CHANNEL
        for options in ({}, {"QDQDisableWeightAdjustForInt32Bias": True}):  # the adjustment fails for some matrices
            try:
                quantize_static(
                    prepared, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                    activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options=options,
                )  # fmt: skip
                return
            except ValueError:
                if options:
                    raise


def four_bits(model: Path, feeds: Path, target: Path, *, way: str) -> None:
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizer

    config = {
        "rtn": lambda: quantizer.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=False, bits=4),
        "hqq": lambda: quantizer.HQQWeightOnlyQuantConfig(block_size=32, bits=4),
        "k_quant": quantizer.KQuantWeightOnlyQuantConfig,
    }[way]()
    small = quantizer.MatMulNBitsQuantizer(onnx.load(model), bits=4, block_size=32, algo_config=config)
    small.process()
    made = small.model.model
    if not any(node.op_type == "MatMulNBits" for node in made.graph.node):
        raise ValueError("no MatMul with a constant matrix")
    onnx.save(made, target)


def float16(model: Path, feeds: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), target)


def shrink_ray(model: Path, feeds: Path, target: Path, *, levels: int | None, per_channel: bool = False) -> None:
    from onnx_shrink_ray.shrink import quantize_weights

    loaded = onnx.load(model)
    made = quantize_weights(
        loaded, min_elements=LEAST_WEIGHTS, float_quantization=levels is not None, float_levels=levels or 256,
        per_channel=per_channel, ir_version=loaded.ir_version,
    )  # fmt: skip
    onnx.save(made, target)


def palettised(model: Path, feeds: Path, target: Path, *, bits: int) -> None:
    """Cluster with coremltools; what is sent are packed indices and codebooks in float16."""
    import torch
    from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig

    dense = onnx.load(model)
    values, sent, found = float_tensors(dense, least_size=LEAST_WEIGHTS, least_rank=2), [], {}
    for number, value in values.items():
        rows = value.reshape(len(value), -1)
        layer = torch.nn.Linear(rows.shape[1], rows.shape[0], bias=False)
        layer.weight.data = torch.from_numpy(rows.copy())
        options = {"global_config": {"n_bits": bits, "granularity": "per_tensor"}}
        network = torch.nn.Sequential(layer)
        small = PostTrainingPalettizer(network, PostTrainingPalettizerConfig.from_dict(options)).compress()
        clustered = small[0].weight.detach().numpy().astype(np.float16).astype(np.float32)
        codebook, indices = np.unique(clustered, return_inverse=True)
        if len(codebook) > 2**bits:
            raise ValueError(f"{len(codebook)} values after clustering to {bits} bits")
        planes = indices.reshape(-1, 1) >> np.arange(bits)[::-1] & 1
        sent += [np.packbits(planes.astype(np.uint8)).tobytes(), codebook.astype(np.float16).tobytes()]
        found[number] = clustered
    onnx.save(with_tensors(dense, found), target)
    Path(f"{target}.sent").write_bytes(without_tensors(dense, values) + b"".join(sent))


MAKERS: dict[str, Callable[[Path, Path, Path], None]] = {
    "int8 dynamic": lambda *paths: int8_dynamic(*paths, per_channel=False),
    "int8 dynamic, channels": lambda *paths: int8_dynamic(*paths, per_channel=True),
    "int8 static": int8_static,
    "4 bits RTN": lambda *paths: four_bits(*paths, way="rtn"),
    "4 bits HQQ": lambda *paths: four_bits(*paths, way="hqq"),
    "4 bits k_quant": lambda *paths: four_bits(*paths, way="k_quant"),
    "float16": float16,
    "shrink-ray": lambda *paths: shrink_ray(*paths, levels=None),
    "shrink-ray, channels": lambda *paths: shrink_ray(*paths, levels=None, per_channel=True),
    **{f"shrink-ray float {n}": (lambda *paths, n=n: shrink_ray(*paths, levels=n)) for n in (256, 64, 32, 16)},
    **{f"coremltools {n} bits": (lambda *paths, n=n: palettised(*paths, bits=n)) for n in (3, 4, 6)},
}  # fmt: skip


LARGE_BYTES = 30_000_000
"""Larger files go through brotli -9 instead of -11, which takes minutes there."""


def sizes(path: Path) -> dict[str, int]:
    """Bytes of a file, and after gzip and brotli at their highest levels."""
    import brotli

    data = path.read_bytes()
    quality = 11 if len(data) <= LARGE_BYTES else 9
    packed = {"gzip_bytes": gzip.compress(data, 9), "brotli_bytes": brotli.compress(data, quality=quality, lgwin=24)}
    return {"bytes": len(data), **{name: len(value) for name, value in packed.items()}}


def with_initialisers(model: onnx.ModelProto) -> bool:
    """Move weights of ``Constant`` nodes to initialisers, since these tools see no others; whether there were any."""
    found = [node for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in found:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        model.graph.node.remove(node)
    return any(np.prod(node.attribute[0].t.dims) >= LEAST_WEIGHTS for node in found)


def main() -> None:
    variant, *paths = sys.argv[1:]
    if variant == "size":
        json.dump(sizes(Path(paths[0])), sys.stdout)
        return
    model, feeds, target = map(Path, paths)
    with tempfile.TemporaryDirectory() as folder:
        moved = onnx.load(model)
        if with_initialisers(moved) and not variant.startswith("coremltools"):
            model = Path(folder) / "moved.onnx"
            onnx.save(moved, model)
        MAKERS[variant](model, feeds, target)


if __name__ == "__main__":
    main()
