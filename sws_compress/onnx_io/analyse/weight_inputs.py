"""The inputs of operators that are weights.

Operators of the default domain and of com.microsoft are listed. One of com.microsoft that is not listed is judged by
kind: whatever it reads of two or more dimensions is a weight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from sws_compress.onnx_io.format.blocked_weight import CONTRIB_DOMAIN

_KERNELS: Mapping[str, Collection[int]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "ConvTransposeWithDynamicPads": (1,),
    "DeformConv": (1,),
    "FusedConv": (1,),
    "NhwcConv": (1,),
    "NhwcFusedConv": (1,),
}
"""Convolutions and which of their inputs are kernels."""

WEIGHT_INPUTS: Mapping[str, Collection[int]] = {
    **_KERNELS,
    "Attention": (0, 1, 2),
    "AttnLSTM": (1, 2, 8, 9, 10, 13),
    "DecoderAttention": (2, 3),
    "DecoderMaskedMultiHeadAttention": (0, 1, 2),
    "DecoderMaskedSelfAttention": (1,),
    "DynamicQuantizeLSTM": (),
    "Einsum": range(64),
    "EmbedLayerNormalization": (2, 3, 4),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "FusedMatMulActivation": (0, 1),
    "GRU": (1, 2),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Gemm": (0, 1),
    "GemmFastGelu": (0, 1),
    "LSTM": (1, 2),
    "LongformerAttention": (1, 4),
    "MatMul": (0, 1),
    "MoE": (2, 4, 6),
    "MultiHeadAttention": (0, 1, 2),
    "PackedAttention": (1,),
    "PackedMultiHeadAttention": (0, 1, 2),
    "RNN": (1, 2),
    "SparseToDenseMatMul": (0, 1),
    "TransposeMatMul": (0, 1),
    "WordConvEmbedding": (1, 3),
}
"""Operators and which of their inputs are weights.

Biases, masks and initial states are not. QLinearConv, MatMulInteger and the like are missing because their weights are
integers, which are packed as they are.
"""

_WITHOUT_WEIGHTS = (
    "Bias", "ConvInteger", "DequantizeLinear", "DynamicQuantize", "FastGelu", "GatherBlockQuantized", "Gelu",
    "GroupNorm", "GroupQueryAttention", "LayerNormalization", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger",
    "MatMulNBits", "PagedAttention", "Q", "RelativePositionBias", "RotaryEmbedding", "Simplified",
    "Skip", "SparseAttention",
)  # fmt: skip
"""How names of those operators of com.microsoft begin whose floats are no weights, but activations, biases, scales and
tables of positions."""


def is_weight_input(node: ir.Node, number: int, rank: int | None) -> bool:
    """Whether a node takes an input as a weight.

    Parameters
    ----------
    node : ir.Node
        The node.
    number : int
        Which input.
    rank : int or None
        Dimensions of the tensor that is asked about; None if they are not known.
    """
    if node.domain not in ("", CONTRIB_DOMAIN):
        return False
    if node.op_type in WEIGHT_INPUTS or not node.domain:
        return number in WEIGHT_INPUTS.get(node.op_type, ())
    return not node.op_type.startswith(_WITHOUT_WEIGHTS) and (rank is None or rank >= 2)


def is_kernel_input(node: ir.Node, number: int) -> bool:
    """Whether a node is a convolution and takes an input as its kernel."""
    return node.domain in ("", CONTRIB_DOMAIN) and number in _KERNELS.get(node.op_type, ())
