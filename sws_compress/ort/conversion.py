"""Whether a model of an older opset, once converted, still computes what its file does."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sws_compress.errors import DataError, ModelError, VerificationError
from sws_compress.files import AnyPath
from sws_compress.onnx_io.analyse.index_ranges import index_ranges
from sws_compress.onnx_io.read.convert import CONVERTED_FROM, refused_conversion
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.session import reason_of
from sws_compress.ort.user_models import Feeds, feeds_with_answers, open_model

LARGEST_RELATIVE_DIFFERENCE = 1e-5
"""Relative difference of outputs up to which a converted model counts as the same: some roundings of float32."""


def check_conversion(file: Path, model: ir.Model, inputs: AnyPath | Feeds | None = None, *, seed: int = 0) -> None:
    """Compare a model that had to be converted with its file, in ONNX Runtime.

    Parameters
    ----------
    file : Path
        The file that the model was read from.
    model : ir.Model
        The model as `read_model` returned it; one that was not converted passes.
    inputs : path-like, mapping of str to array-like, or None
        The caller's inputs by name, or an .npz file of them; None draws random ones.
    seed : int
        Seed of random inputs.

    Raises
    ------
    ModelError
        If outputs differ by more than `LARGEST_RELATIVE_DIFFERENCE`, or if they cannot be compared.
    DataError
        If ``inputs`` do not fit the model.
    """
    stated = model.meta.get(CONVERTED_FROM)
    if stated is None:
        return
    opset = model.opset_imports[""]
    try:
        feeds, _ = feeds_with_answers(open_model(file), file, inputs, seed=seed, ranges=index_ranges(model))
    except DataError as error:
        if inputs is not None:
            raise
        raise ModelError(
            f"model {file} of opset {stated} must run on random inputs to be compared with its conversion to opset "
            f"{opset}, got none that fit: give inputs (--inputs), or export it again with opset {opset} or newer"
        ) from error
    try:
        differences = compare_outputs(file, to_bytes(model), feeds)
    except (VerificationError, DataError) as error:
        found = f"two versions that cannot be compared ('{reason_of(error)}')"
        raise refused_conversion(file, stated, opset, found) from error
    largest = max((difference.largest_relative for difference in differences), default=0.0)
    if not largest <= LARGEST_RELATIVE_DIFFERENCE:
        raise refused_conversion(file, stated, opset, f"outputs that differ by {largest:.1e}")
