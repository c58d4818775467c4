"""A folder with a model file and its card, ready to be uploaded to a model hub."""

from __future__ import annotations

import os
from pathlib import Path

from sws_compress.errors import OutputError
from sws_compress.files import AnyPath, checked_output, draft, file_path, write_atomically
from sws_compress.onnx_io.analyse.inputs import model_inputs
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, external_files, stored_model
from sws_compress.report.loading_code import ModelInput, loading_code
from sws_compress.report.model_card import MARK, model_card
from sws_compress.report.result import CompressionResult

CARD = "README.md"
"""Name of a card, by which hubs find it."""

PIECE_BYTES = 1 << 22
"""Bytes that are copied at a time."""


def save_card(path: AnyPath, folder: AnyPath, *, result: CompressionResult | None = None, command: str = "") -> Path:
    """Put a model file and its card into a folder that can be uploaded as it is.

    The card is a ``README.md`` with sizes, the metric, warnings, the command, and how to load the file. Nothing is sent
    anywhere.

    Parameters
    ----------
    path : str or path
        The model file. It is copied, with its external data, unless it lies in the folder.
    folder : str or path
        Where both go; it is made if there is none.
    result : CompressionResult, optional
        What `compress` returned for this file.
    command : str
        The command that made it, to be shown.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    ModelError
        If the file is no sound model.
    OutputError
        If the folder cannot be written, or has a README.md that this package has not written.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")
    >>> result = sws.compress("model.onnx", "small.onnx")
    >>> card = sws.save_card("small.onnx", "hub", result=result)
    >>> sorted(path.name for path in card.parent.iterdir())
    ['README.md', 'small.onnx']
    """
    file, target = file_path("path", path), card_folder(folder)
    proto = stored_model(file).proto
    inputs = [ModelInput(*entry) for entry in model_inputs(proto)]
    code = loading_code(file.name, inputs, [output.name for output in proto.graph.output])
    for part in (file, *external_files(file)):
        _copy(part, target / os.path.relpath(part, file.parent))
    card = target / CARD
    write_atomically(card, model_card(file.name, bytes_on_disk(file), code, result, command).encode())
    return card


def card_folder(folder: AnyPath) -> Path:
    """The folder of a card, made if there is none; it is checked before the work starts.

    Raises
    ------
    OutputError
        If no card can be written there, or if it has a README.md that this package has not written.
    """
    target = file_path("card", folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"card {target} must be a folder, got '{reason}': choose another path") from error
    card = checked_output(target / CARD, "card")
    if card.exists() and MARK.encode() not in card.read_bytes():
        raise OutputError(
            f"card {card} must be one that sws-compress wrote, got another: move it away, or choose another folder"
        )
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy a file, unless it is there already."""
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    checked_output(target, "card")
    with source.open("rb") as stream, draft(target) as file:
        while data := stream.read(PIECE_BYTES):
            file.write(data)
        file.publish()
