"""Weights where they lie in a network: as the rows that multiply inputs, and back as palettes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.drift import Drift
from sws_compress.calibrate.layers import Coded, Layer
from sws_compress.calibrate.moments import InputMoment, number_type
from sws_compress.calibrate.repair import Means
from sws_compress.calibrate.row_counts import RowCounts
from sws_compress.onnx_io.analyse.biases import Bias
from sws_compress.onnx_io.analyse.layouts import Arrangement
from sws_compress.onnx_io.analyse.memory_routes import memory_route
from sws_compress.onnx_io.analyse.products import Product, products_of
from sws_compress.onnx_io.analyse.weights import Weight
from sws_compress.ort.session import Array
from sws_compress.quantize.palette import FLOATS, Palette, in_half
from sws_compress.quantize.weight_scales import ChannelScales
from sws_compress.thresholds import MAX_CODEBOOK

MOST_INPUTS = 256
"""Inputs of a row of a weight whose inputs are not known: a row may be cut anywhere, and their moment is small."""

LARGEST_WORD = 127
"""Most steps from 0 of weights that stay in integers of 8 bits."""

LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class Slices:
    """The layout of a weight whose inputs are not known: its slices along an axis, which are all alike.

    Parameters
    ----------
    axis : int
        The axis.
    scaled : bool
        Whether every slice may have a factor of its own.
    """

    axis: int
    scaled: bool = False

    def rows(self, values: Array) -> Array:
        return np.moveaxis(values, self.axis, 0).reshape(1, values.shape[self.axis], -1)

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        others = [size for axis, size in enumerate(shape) if axis != self.axis]
        return np.moveaxis(rows.reshape(shape[self.axis], *others), 0, self.axis)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return self.axis if self.scaled else None


class Unknown:
    """The layout of a weight whose inputs are not known: all its elements are alike."""

    def rows(self, values: Array) -> Array:
        return values.reshape(1, -1, math.gcd(values.size, MOST_INPUTS))

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        return rows.reshape(shape)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return None


@dataclass(frozen=True, eq=False)
class Place:
    """A weight, how it lies, its products (none if they are not known), what may be changed with it, and its counts.

    Counts are known of tables whose rows are only looked up. ``reach`` is that of its `Layer`.
    """

    weight: Weight
    layout: Arrangement
    products: tuple[Product, ...]
    bias: Bias | None = None
    counts: RowCounts | None = None
    reach: int | None = None

    @property
    def counted(self) -> bool:
        """Whether its rows have scales by how often they are looked up."""
        return self.counts is not None and self.layout.output_axis(self.weight.shape) is not None

    @property
    def moment_bytes(self) -> int:
        """Bytes of its second moment."""
        if not self.products:
            return 0
        groups, _, size = self.layout.rows(self.weight.values).shape
        return 8 * int(groups) * int(size) * int(size)

    def layer(self, moment: InputMoment | None, drift: Drift | None = None, like: Layer | None = None) -> Layer:
        """Its rows with the moment of their inputs, which they follow; all inputs are alike where that is None.

        Rows that are looked up cost by how often they are. ``like`` is the layer of another weight that meets the same
        inputs: what is known of these is not computed again.
        """
        rows = self.layout.rows(self.weight.values)
        groups, _, size = rows.shape
        rows = rows.astype(number_type(size))
        if self.counts is not None and self.counted:
            return Layer(rows, np.ones((groups, size)), scaled=True, shares=self.counts.shares[None], reach=self.reach)
        if moment is None:
            return Layer(rows, np.broadcast_to(np.eye(size), (groups, size, size)), scaled=False, reach=self.reach)
        means = None
        if self.bias is not None:
            means = Means(moment.mean if drift is None else drift.before / drift.samples, moment.mean)
            drift = None if drift is None else drift.centred()
        scaled = self.layout.output_axis(self.weight.shape) is not None
        if like is not None and len(like.moment) == groups and (like.means is None) == (means is None):
            layer = Layer(rows, like.moment, scaled=scaled, means=means, reach=self.reach).knowing(
                like, "feedback", "row_curvatures"
            )
        else:
            shrunk = (moment if means is None else moment.centred()).shrunk()
            if len(shrunk) < groups:
                shrunk = np.broadcast_to(shrunk, (groups, size, size))
            layer = Layer(rows, shrunk, scaled=scaled, means=means, reach=self.reach)
        return layer if drift is None else layer.with_rows(drift.followed(rows, layer.feedback))

    def changed(self, changes: Array) -> Array:
        """The weight with changes of its rows added."""
        added = self.layout.weight(changes, self.weight.shape)
        return (self.weight.values.astype(np.float64) + added).astype(self.weight.values.dtype)

    def palette(self, coded: Coded) -> Palette:
        """The palette of its coded rows."""
        shape, dtype = self.weight.shape, self.weight.values.dtype
        indices = np.ascontiguousarray(self.layout.weight(coded.indices, shape)).reshape(-1)
        axis = self.layout.output_axis(shape)
        scales = None if axis is None else ChannelScales(self._along(axis, coded), axis)
        stored = dtype if dtype.name in FLOATS else np.dtype(np.float32)
        codebook = coded.codebook.astype(np.float32)
        if stored == np.float16:  # the last entry may lie beyond the largest weight
            codebook = np.clip(codebook, -LARGEST_HALF, LARGEST_HALF)
        codebook = codebook.astype(stored)
        palette = Palette(codebook, indices, shape, scales)
        if len(codebook) > MAX_CODEBOOK or self.reach is not None:  # it stays even
            return palette
        return in_half(palette, indices.size * coded.step**2 / 12)

    def _along(self, axis: int, coded: Coded) -> Array:
        """The factors in the order of an axis of the weight, along which all outputs lie."""
        spread = np.broadcast_to(coded.factors[..., None], coded.indices.shape)
        lines = np.moveaxis(self.layout.weight(spread, self.weight.shape), axis, 0)
        return lines.reshape(len(lines), -1)[:, 0]


def place_of(model: ir.Model, weight: Weight, *, integers: bool = False) -> Place:
    """A weight of a model with what is known of how it lies and what it multiplies.

    With ``integers`` it reaches no farther than words of 8 bits wherever it can stay in them.
    """
    value = model.graph.initializers.get(weight.name)
    stays = integers and value is not None and not isinstance(memory_route(value), str)
    reach = LARGEST_WORD if stays else None
    products = products_of(model, weight.name)
    if not products:
        return Place(weight, Unknown(), (), reach=reach)
    return Place(weight, products[0].layout, products, reach=reach)
