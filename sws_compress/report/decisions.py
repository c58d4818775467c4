"""Why every weight got its bits, as data."""

from __future__ import annotations

from dataclasses import dataclass

CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "NhwcConv", "DeformConv")
RECURRENT = ("LSTM", "GRU", "RNN")
LOOKED_UP = ("Gather", "GatherND", "GatherElements", "EmbedLayerNormalization")
PRODUCTS = ("MatMul", "Gemm", "Einsum", "FusedMatMul", "FusedGemm", "Attention", "QAttention", "MultiHeadAttention")


@dataclass(frozen=True)
class Decision:
    """What was decided about one weight, and by what.

    Parameters
    ----------
    name : str
        Name of the weight.
    kind : str
        How the network uses it: "matrix", "convolution", "recurrent", "embedding", or the operators that read it.
    weights : int
        Number of its elements.
    file_bytes : int
        Bytes that are in the file for it alone.
    entries : int
        Entries of its codebook; 0 where it is dense.
    how : str
        What it was decided by: the inputs of its layer, its values, or the caller.
    step : float, optional
        Distance of the entries of an even codebook, before scales of channels.
    level : float, optional
        What the outputs suffer per unit of weighted error energy in its layer.
    error_share : float, optional
        Share of the predicted error of the outputs that comes from it, 0..1.
    """

    name: str
    kind: str
    weights: int
    file_bytes: int
    entries: int
    how: str
    step: float | None = None
    level: float | None = None
    error_share: float | None = None

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight."""
        return 8 * self.file_bytes / max(self.weights, 1)


def kind_of(operators: tuple[str, ...]) -> str:
    """How a network uses a weight that these operators read.

    Examples
    --------
    >>> kind_of(("Gather", "MatMul"))
    'embedding, matrix'
    """
    kinds = (
        ("convolution", CONVOLUTIONS),
        ("recurrent", RECURRENT),
        ("embedding", LOOKED_UP),
        ("matrix", PRODUCTS),
    )
    named = {operator: kind for kind, members in kinds for operator in members}
    return ", ".join(sorted({named.get(operator, operator) for operator in operators}))
