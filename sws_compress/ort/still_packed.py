"""Whether a file still is small in itself and in memory, after whatever tools have done to it."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.external_data import StoredModel
from sws_compress.onnx_io.format.decoders import compressed_names
from sws_compress.onnx_io.format.held import held_tensors
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.format.sizes import data_bytes
from sws_compress.onnx_io.traversal import ancestors, constant_nodes
from sws_compress.ort.decode import weights_computed
from sws_compress.ort.session import session

_STAYS = "DequantizeLinear"
"""The operator of constants that is meant to run at every inference."""

_INTEGER_TYPES = (ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8, ir.DataType.UINT8)
"""Types of weights that are integers in memory."""


@dataclass(frozen=True)
class StillPacked:
    """What a file packs, and what ONNX Runtime makes of it when it loads it.

    Parameters
    ----------
    decoded : int
        Tensors that the file stores in packed form.
    held : int
        Tensors that are to stay in integers.
    integers : int
        Initialisers of integers of 8 bits or less once the model is loaded.
    integer_bytes, float_bytes : int
        Bytes of these, and of floating-point initialisers.
    left : tuple of str
        Operators of decoders that run at every inference.
    """

    decoded: int
    held: int
    integers: int
    integer_bytes: int
    float_bytes: int
    left: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there are decoders, none runs at every inference, and integers stay integers."""
        return self.decoded > 0 and not self.left and self.integers >= self.held

    @property
    def line(self) -> str:
        """All of this in one line."""
        if not self.decoded:
            return "no: no tensor is stored in packed form, as after a tool that has folded the decoders"
        if self.left:
            return f"no: {', '.join(sorted(set(self.left)))} of decoders run at every inference"
        if self.integers < self.held:
            return f"no: {self.held - self.integers} of {self.held} weights become floats when the model is loaded"
        sizes = f"{self.integer_bytes:,} bytes of integers and {self.float_bytes:,} of floats in memory"
        return f"yes: {self.decoded} tensors are decoded at load, and none later; {sizes}"


def still_packed(model: StoredModel) -> StillPacked:
    """Load a model as ONNX Runtime optimises it, and look at what is left.

    Parameters
    ----------
    model : StoredModel
        The model. Tensors in external data are read.

    Raises
    ------
    ModelError, VerificationError
        If the file is damaged, or does not load.
    """
    proto = model.proto
    mark = mark_of_proto(proto)
    stays = {name for node in proto.graph.node if node.op_type == _STAYS for name in node.output}
    names = [] if mark is None else [name for name in compressed_names(proto, mark) if name not in stays]
    dense = {tensor.name for tensor in proto.graph.initializer if ir.DataType(tensor.data_type) not in FLOAT_TYPES}
    routes = held_tensors(proto, {*names, *dense})
    computed = weights_computed(proto)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loaded.onnx"
        session(model.path or proto.SerializeToString(), optimized_path=path).close()
        loaded = onnx.load(path)
    left, _ = ancestors(constant_nodes(loaded), computed)
    tensors = [(ir.DataType(tensor.data_type), tensor) for tensor in loaded.graph.initializer]
    integers = [tensor for kind, tensor in tensors if kind in _INTEGER_TYPES]
    return StillPacked(
        decoded=len(names),
        held=sum(1 for name in routes if name in names),
        integers=sum(1 for tensor in integers if math.prod(tensor.dims) > 1),
        integer_bytes=sum(map(data_bytes, integers)),
        float_bytes=sum(data_bytes(tensor) for kind, tensor in tensors if kind in FLOAT_TYPES),
        left=tuple(node.op_type for node in left if node.op_type != _STAYS),
    )
