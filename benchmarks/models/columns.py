"""Steps per input column, and codebooks of pairs: what they could save beside one step for every output.

    python -m benchmarks.models.columns --data FOLDER [--only NAME ...] [--ratio 8]

With error feedback, an error in column j of a layer costs c_j per unit of energy, once the columns behind it have made
up for it. Steps in proportion to c_j^-1/2 make all columns pay alike (WaterSIC, arXiv 2603.04956). Every layer of a
file is assigned again with such a factor per column, at the same price per bit. Bits are those of the entropy of the
indices: of the whole layer, as files code them, or of eight classes of columns, which would take eight codes. A factor
takes 16 bits. What is saved counts both bits and errors: (level * errors + price * bits) / price, as a share of the
bits.

The last column is what pairs on a hexagonal lattice save at most: 0.028 bits of each weight that is not zero (Conway &
Sloane 1982); at low rates scalar codes lose less.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

import sws_compress as sws
from benchmarks.models.calibration import calibration_of
from benchmarks.models.places import add_arguments
from sws_compress.calibrate.error_feedback import Feedback
from sws_compress.calibrate.grids import even_codebook, nearest, shares_of, step_of
from sws_compress.calibrate.layers import SURVIVORS, SWEEPS, Layer
from sws_compress.calibrate.moments import Array
from sws_compress.entropy import entropy_bits

MODELS = ("lenet", "resnet20", "magika", "ocr_recognition")
EXPONENTS = (0.25, 0.5)
"""Of c in the factor of a column; 0.5 makes all columns pay alike."""

CLASSES = 8
FACTOR_BITS = 16
HEXAGONAL_BITS = 0.5 * math.log2((1 / 12) / (5 / (36 * math.sqrt(3))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", default=MODELS)
    parser.add_argument("--ratio", type=float, default=8.0)
    arguments = parser.parse_args()
    heads = [f"c^{exponent:g}, {codes}" for exponent in EXPONENTS for codes in ("one code", f"{CLASSES} codes")]
    print(f"| model | bits per weight | {' | '.join(heads)} | pairs |\n|---|---|{'---|' * len(heads)}---|")
    for name in arguments.only:
        calls = layers_of(name, arguments)
        totals = np.sum([saved(*call) for call in calls if call[0].feedback[0].spread is not None], axis=0)
        size = sum(call[0].rows.size for call in calls if call[0].feedback[0].spread is not None)
        base, pairs = totals[0], HEXAGONAL_BITS * totals[-1]
        shares = [f"{100 * each / base:+.1f} %" for each in (*(totals[1:-1] - base), -pairs)]
        print(f"| {name} | {base / size:.2f} | {' | '.join(shares)} |", flush=True)


def layers_of(name: str, arguments: argparse.Namespace) -> list[tuple[Layer, float]]:
    """The layers of the last file that a search for a ratio has tried, each with its price per bit."""
    found: dict[tuple[Any, ...], tuple[Layer, float]] = {}
    coded = Layer.coded

    def kept(self: Layer, bit_price: float) -> Any:
        found[self.rows.shape, float(self.rows.ravel()[0]), float(self.rows.ravel()[-1])] = self, bit_price
        return coded(self, bit_price)

    with patch.object(Layer, "coded", kept):
        sws.compress(
            arguments.folder / f"{name}.onnx",
            arguments.folder / "columns.onnx",
            sws.Calibrated(inputs=calibration_of(name, arguments.data, arguments.folder)),
            ratio=arguments.ratio,
        )
    return list(found.values())


def saved(layer: Layer, bit_price: float) -> Array:
    """Costs in bits: with one step, with each exponent and way to code; and weights that are not zero."""
    costs, nonzero = [cost(layer, bit_price, 0.0)[0]], 0
    for exponent in EXPONENTS:
        one_code, by_class, nonzero = cost(layer, bit_price, exponent)
        costs += [one_code, by_class]
    return np.array([*costs, nonzero], np.float64)


def cost(layer: Layer, bit_price: float, exponent: float) -> tuple[float, float, int]:
    """Bits of a layer and its error in bits, with one code and with one per class of columns; weights not zero."""
    one_code = by_class = 0.0
    nonzero = 0
    step = float(step_of(bit_price, layer.sensitivity))
    changes = np.zeros_like(layer.rows)
    for group, (rows, feedback) in enumerate(zip(layer.divided, layer.feedback, strict=True)):
        curvatures = np.empty(len(feedback.order))
        curvatures[feedback.order] = feedback.curvatures
        scales = (curvatures / np.exp(np.log(curvatures).mean())) ** exponent
        scaled = rows * scales
        of_group = layer.row_curvatures[group] / np.exp(np.log(layer.row_curvatures).mean())
        codebook = even_codebook(scaled, step)
        indices = nearest(scaled, codebook)
        stretched = stretch(feedback, scales[feedback.order])
        for sweep in range(SWEEPS):
            survivors = SURVIVORS if sweep == SWEEPS - 1 else 1
            price = bit_price * (of_group if layer.scaled else 1.0) / layer.level
            indices = stretched.assign(scaled, codebook, shares_of(indices, len(codebook)), price, survivors)
        bits = partial(entropy_of, entries=len(codebook))
        stored = FACTOR_BITS * len(scales) if exponent else 0
        one_code += bits(indices) + stored
        classes = np.array_split(np.argsort(scales, kind="stable"), CLASSES)
        by_class += sum(bits(indices[:, part]) for part in classes) + stored
        nonzero += int(np.count_nonzero(codebook[indices]))
        changes[group] = (codebook[indices] / scales - rows) * layer.factors[group][:, None]
    error = layer.level * layer.error(changes) / bit_price
    return one_code + error, by_class + error, nonzero


def stretch(feedback: Feedback, scales: Array) -> Feedback:
    """The feedback of columns that were multiplied by factors, which are in the order of assignment."""
    assert feedback.spread is not None
    spread = np.ascontiguousarray(feedback.spread * scales / scales[:, None])
    return replace(feedback, curvatures=feedback.curvatures / scales**2, spread=spread)


def entropy_of(indices: np.ndarray[Any, Any], entries: int) -> float:
    """Bits of indices at their entropy."""
    counts = np.bincount(indices.ravel(), minlength=entries)
    return entropy_bits(counts)


if __name__ == "__main__":
    main()
