"""Palettes whose integers stay in memory, in a copy of the model that reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.memory_routes import Route, Stays, memory_route
from sws_compress.onnx_io.write.integer_weights import IntegerWeight, block_sizes, keep_integers
from sws_compress.quantize.integer_palette import Groups, IntegerPalette, integer_palette
from sws_compress.quantize.palette import Palette, palette_of

NOTED_SHARE = 0.1
"""Share of the bytes in memory from which weights that are floats are worth a note."""

NOTED_LOSS = 0.02
"""Share of a weight's error from which it is told what integers add to it."""

SMALL_LOSS = 0.03
"""Share of a weight's error for which blocks stay as long as they are."""


@dataclass(frozen=True)
class Memory:
    """What a runtime holds of the weights.

    Parameters
    ----------
    integers : bool
        Whether those that can stay in integers of few bits.
    standard_operators : bool
        Whether they do without operators of ONNX Runtime's own.
    """

    integers: bool = False
    standard_operators: bool = False


FLOATS_IN_MEMORY = Memory()
"""Weights are what they were in the model."""


@dataclass(frozen=True, eq=False)
class InIntegers:
    """A model in which some weights are integers.

    Parameters
    ----------
    model : ir.Model
        The model; its other initialisers are as they were.
    palettes : mapping of str to Palette
        What initialisers hold, by name, those of integers included.
    kept : mapping of str to IntegerPalette
        The weights that stay in integers.
    held_bytes : mapping of str to int
        Bytes that a runtime holds of each of them.
    hindrances : mapping of str to str
        Why other weights do not, to be read after their names.
    products : frozenset of str
        The words of MatMulNBits. They must not be constants beside scales that are computed: without optimisation,
        ONNX Runtime 1.32 prepares such words without the scales, and multiplies by something else.
    """

    model: ir.Model
    palettes: Mapping[str, Palette]
    kept: Mapping[str, IntegerPalette] = field(default_factory=dict)
    held_bytes: Mapping[str, int] = field(default_factory=dict)
    hindrances: Mapping[str, str] = field(default_factory=dict)
    products: frozenset[str] = frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not stay in integers, if it is much, and what integers cost, if it is much."""
        floats = {name: self.palettes[name] for name in self.hindrances}
        float_bytes = sum(4 * math.prod(palette.shape) for palette in floats.values())
        lines = []
        if float_bytes > NOTED_SHARE * (float_bytes + sum(self.held_bytes.values())):
            most = sorted(floats, key=lambda name: -math.prod(floats[name].shape))
            named = first_few([f"{shown(name)} {self.hindrances[name]}" for name in most], "; ")
            lines.append(f"{float_bytes:,} bytes of weights are floats in memory: {named}")
        moved = {name: found.loss for name, found in self.kept.items() if found.loss > NOTED_LOSS}
        if moved:
            worst = max(moved, key=lambda name: moved[name])
            lines.append(
                f"{len(moved)} weights were moved to integers of few bits, which adds up to "
                f"{10 * math.log10(1 + moved[worst]):.1f} dB to their error ({shown(worst)}): keep floats in memory "
                "(--memory float) if that is too much"
            )
        return tuple(lines)


def in_integers(model: ir.Model, palettes: Mapping[str, Palette], memory: Memory) -> InIntegers:
    """Let the weights of a model stay in integers wherever what reads them can.

    Parameters
    ----------
    model : ir.Model
        It is not changed.
    palettes : mapping of str to Palette
        Palettes of initialisers.
    memory : Memory
        How, or not at all.
    """
    if not memory.integers:
        return InIntegers(model, palettes)
    kept: dict[str, tuple[Stays, IntegerPalette]] = {}
    hindrances: dict[str, str] = {}
    for name, palette in palettes.items():
        if palette.codebook.dtype.kind in "iub":
            continue
        stays = memory_route(model.graph.initializers[name])
        found = stays if isinstance(stays, str) else _integers(palette, stays, memory.standard_operators)
        if isinstance(stays, str) or isinstance(found, str):
            hindrances[name] = str(found)
        else:
            kept[name] = stays, found
    copy = model.clone()
    weights = {name: (stays, _weight(found)) for name, (stays, found) in kept.items()}
    written = keep_integers(copy, weights, standard_operators=memory.standard_operators)
    stored = {name: _palette(copy.graph.initializers[name]) for name in (*kept, *written.tables)}
    known = {name: palette for name, palette in stored.items() if palette is not None}
    integers = {name: found for name, (_, found) in kept.items()}
    nbits = not memory.standard_operators
    products = frozenset(name for name, (stays, _) in kept.items() if nbits and stays.route is Route.PRODUCT)
    return InIntegers(copy, {**palettes, **known}, integers, written.held_bytes, hindrances, products)


def _integers(palette: Palette, stays: Stays, standard_operators: bool) -> IntegerPalette | str:
    """The integers of a weight, in the largest blocks that add little error; or why there are none."""
    axis = None if palette.scales is None else palette.scales.axis
    if stays.route is Route.PRODUCT:
        assert stays.output_axis is not None  # that of a product
        if axis not in (None, stays.output_axis):
            return "has scales along the inputs of a product"
        sizes = (None,) if standard_operators else block_sizes(palette.shape[1 - stays.output_axis])
        groups = [Groups(stays.output_axis, size) for size in sizes]
    else:
        groups = [Groups(0 if axis is None else axis)]
    best: IntegerPalette | None = None
    for each in groups:
        found = integer_palette(palette, each)
        if found is not None and (best is None or (best.bits, best.loss) > (found.bits, found.loss)):
            best = found
        if best is not None and best.loss <= SMALL_LOSS:
            break
    return best or f"has {len(palette.codebook)} values, which are no integers of 8 bits"


def _weight(found: IntegerPalette) -> IntegerWeight:
    return IntegerWeight(found.integers, found.bits, found.scales, found.axis, found.factors, found.groups.size)


def _palette(value: ir.Value) -> Palette | None:
    tensor = value.const_value
    assert tensor is not None  # it is an initialiser
    return palette_of(np.asarray(tensor.numpy()))
