"""What the codebooks of a data-free model are like, and which of two is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray
from sws_compress.quantize.channel_scaled import cluster_by_channel
from sws_compress.quantize.palette import check_components
from sws_compress.quantize.rate_distortion import merit_bits
from sws_compress.quantize.scalar import Clustering, cluster
from sws_compress.quantize.vectors import cluster_vectors

ScalesOf = Literal["tensor", "channel", "auto"]


DIMENSIONS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class CodebookForm:
    """``components`` 2..256 entries a tensor, each of ``vector`` consecutive weights (1, 2, 4 or 8).

    ``scales``: "tensor", none beside the codebook; "channel", a factor for every output channel; "auto", whichever of
    the two is better for a tensor by `merit_bits`. Scales are for scalars.

    Raises ArgumentError where one of these rules is broken.
    """

    components: int = 16
    scales: ScalesOf = "tensor"
    vector: int = 1

    def __post_init__(self) -> None:
        check_components(self.components)
        if self.scales not in get_args(ScalesOf):
            raise ArgumentError(f"scales must be tensor, channel or auto, got {self.scales!r}: choose one of them")
        if self.vector not in DIMENSIONS:
            raise ArgumentError(f"vector must be 1, 2, 4 or 8 weights, got {self.vector}: choose one of them")
        if self.vector > 1 and self.scales != "tensor":
            raise ArgumentError(f"scales must be tensor with vectors, got {self.scales!r}: leave one of the two out")

    def cluster(self, values: AnyArray, axis: int, *, seed: int) -> Clustering:
        """A floating-point tensor of any shape clustered so; ``axis`` is that of its output channels.

        Raises ModelError for NaN or infinite values.
        """
        if self.vector > 1:
            return cluster_vectors(values, self.components, self.vector, seed=seed)
        whole = cluster(values, self.components, seed=seed)
        if self.scales == "tensor" or whole.mixture is None:
            return whole
        scaled = cluster_by_channel(values, self.components, axis)
        if self.scales == "channel" or scaled is None:
            return scaled or whole
        return min(whole, scaled, key=lambda found: merit_bits(found.palette, values))
