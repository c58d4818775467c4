"""Low-bit weights read back from the ONNX Runtime kernel that multiplies by them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from sws_compress.onnx_io.format.blocked_weight import CONTRIB_DOMAIN, PRODUCT_OPERATOR, Floats
from sws_compress.ort.session import session

_PROBED_COLUMNS = 256
"""Columns that are read back per weight, evenly spaced."""


def executed_columns(model: bytes, name: str) -> tuple[npt.NDArray[np.intp], Floats] | None:
    """Columns of a weight as ONNX Runtime multiplies by them: one-hot inputs in float32 pick them exactly.

    Parameters
    ----------
    model : bytes
        A model file.
    name : str
        The weight, under the name it had before it was replaced.

    Returns
    -------
    columns : ndarray, shape (n,), intp
        The inputs that were probed, at most 256.
    values : ndarray, shape (n, outputs), float32
        The weights of these inputs.
        None instead of both if no MatMulNBits of the main graph reads the weight.
    """
    proto = onnx.load_from_string(model)
    node = next((n for n in proto.graph.node if n.op_type == PRODUCT_OPERATOR and f"{name}.indices" in n.input), None)
    if node is None:
        return None
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes.pop("accuracy_level", None)
    product = helper.make_node(PRODUCT_OPERATOR, ["x", *node.input[1:]], ["y"], domain=CONTRIB_DOMAIN, **attributes)
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [product],
        "weights",
        [helper.make_tensor_value_info("x", float32, ["n", attributes["K"]])],
        [helper.make_tensor_value_info("y", float32, ["n", attributes["N"]])],
        [tensor for tensor in proto.graph.initializer if tensor.name in node.input],
    )
    probe = helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=proto.ir_version)
    asked = np.unique(np.linspace(0, attributes["K"] - 1, _PROBED_COLUMNS).astype(np.intp))
    feed = np.zeros((len(asked), attributes["K"]), np.float32)
    feed[np.arange(len(asked)), asked] = 1
    with session(probe.SerializeToString(), trusted=True) as runtime:
        values: Floats = runtime.run({"x": feed})[0]
    return asked, values
