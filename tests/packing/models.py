"""Models and partitions that several tests of this room look at."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec.load_cost import default_limit
from sws_compress.packing.streams import stream_partitions
from sws_compress.quantize.palette import palette_of


def arrays(model):
    """The initialisers of a model by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def cast_model(weights):
    """y = x W with the product in float32, whatever the type of W: the CPU has no other for every type."""
    nodes = [
        helper.make_node("Cast", ["W"], ["V"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "V"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def partitions_of(model: onnx.ModelProto):
    """All partitions of the initialisers that hold few values."""
    read = ir.from_proto(model)
    palettes = {name: palette_of(array) for name, array in arrays(model).items()}
    palettes = {name: palette for name, palette in palettes.items() if palette is not None}
    weights = sum(palette.indices.size for palette in palettes.values())
    return list(stream_partitions(read, palettes, default_limit(weights).scaled(1 / weights)))
