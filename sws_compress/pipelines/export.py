"""A snapped torch module into a file, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.publish import publish_module
from sws_compress.pipelines.source import as_module, open_module, refuse_other_float
from sws_compress.quantize.palette import Palette
from sws_compress.report.result import CompressionResult

if TYPE_CHECKING:
    from torch import nn


def export_snapped(model: nn.Module, palettes: Mapping[str, Palette], job: Job) -> CompressionResult:
    """Export a module once, check that it holds its palettes, verify the file and write it.

    Raises
    ------
    ArgumentError
        If a palette names no parameter.
    ModelError
        If a parameter does not hold the values of its palette, or if the module cannot be exported.
    VerificationError
        If the file does not do what the module does.
    """
    module = as_module(model)
    _check_palettes(module, palettes)
    source = replace(
        open_module(module, job, snapped=palettes), outputs=()
    )  # the network before it was snapped is not known
    return replace(publish_module(source, module, job), network=module)


def _check_palettes(module: nn.Module, palettes: Mapping[str, Palette]) -> None:
    from sws_compress.train.select import plain_name

    parameters = {plain_name(name): parameter for name, parameter in module.named_parameters(remove_duplicate=False)}
    for name, palette in palettes.items():
        if name not in parameters:
            raise ArgumentError(
                f"palettes must name parameters of the model, got {name!r}: pass the module it came from"
            )
        refuse_other_float(name, parameters[name])
        held = parameters[name].detach().cpu().numpy()
        if not np.array_equal(held.view(np.uint32), palette.expand().view(np.uint32)):
            raise ModelError(f"{name} must hold the values of its palette, got others: export right after snap()")
