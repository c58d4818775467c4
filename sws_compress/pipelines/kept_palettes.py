"""Palettes as arrays of a work folder, with the reasons why they have their bits."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ArgumentError, OutputError
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.work_folder import WorkFolder
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.weight_scales import ChannelScales


def keep_palette(folder: WorkFolder, name: str, palette: Palette, reason: Reason) -> None:
    """Write a palette and its reason under the name of its weight."""
    codebook, scales = np.ascontiguousarray(palette.codebook), palette.scales
    told = {
        "dtype": ir.DataType.from_numpy(codebook.dtype).name,
        "entries": codebook.shape,
        "shape": palette.shape,
        "axis": None if scales is None else scales.axis,
        "reason": asdict(reason),
    }
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    factors = np.empty(0, np.float32) if scales is None else scales.values
    folder.save(_key(name), text, codebook.reshape(-1).view(np.uint8), factors, palette.indices)


def kept_palette(folder: WorkFolder, name: str) -> tuple[Palette, Reason]:
    """The palette and the reason of a weight.

    Raises
    ------
    OutputError
        If they were not written by `keep_palette`.
    """
    try:
        text, codebook, factors, indices = folder.load(_key(name))
        told = json.loads(text.tobytes())
        scales = None if told["axis"] is None else ChannelScales(factors, told["axis"])
        entries = codebook.view(ir.DataType[told["dtype"]].numpy()).reshape(told["entries"])
        return Palette(entries, indices, tuple(told["shape"]), scales), Reason(**told["reason"])
    except (ValueError, KeyError, TypeError, ArgumentError) as error:
        raise OutputError(f"work folder {folder.path} must be whole, got damaged work: remove it") from error


def _key(name: str) -> str:
    return f"palette {name}"
