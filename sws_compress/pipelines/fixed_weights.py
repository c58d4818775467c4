"""Weights that no gradient reaches: frozen parameters, and buffers that products read as weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sws_compress.messages import first_few
from sws_compress.onnx_io.analyse.computed_tables import table_kind
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.pipelines.source import Source, refuse_other_float
from sws_compress.thresholds import SMALLEST_WEIGHT

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sws_compress.train.request import FineTuned


def fixed_weights(network: nn.Module, source: Source, request: FineTuned) -> dict[str, torch.Tensor]:
    """The weights of a network that training leaves alone, by name.

    These are the frozen parameters that would be chosen if they were trained, and, unless the request chooses
    parameters, the buffers that a product of the exported graph reads as weights. Computed tables are not among them.

    Parameters
    ----------
    network : nn.Module
        The network, not trained yet.
    source : Source
        The same network as it was exported.
    request : FineTuned
        Its selection.

    Returns
    -------
    dict of str to tensor
        The live tensors.
    """
    from sws_compress.train.select import frozen_weights, plain_name

    found: dict[str, torch.Tensor] = {
        name: parameter
        for name, parameter in frozen_weights(network, request.parameters).items()
        if table_kind(parameter.detach().cpu().numpy()) is None
    }
    if request.parameters is None:
        weights = {weight.name: weight.values for weight in find_weights(source.model, smallest=SMALLEST_WEIGHT)}
        for name, buffer in network.named_buffers():
            values = weights.get(plain_name(name))
            if values is not None and np.array_equal(values, buffer.detach().cpu().numpy()):
                found[plain_name(name)] = buffer
    return found


def snap_fixed(weights: Mapping[str, torch.Tensor], components: int, seed: int) -> None:
    """Cluster each of the weights by itself, in place. Raises ModelError if one of them is not float32."""
    from sws_compress.train.frozen import snap_each

    for name, tensor in weights.items():
        refuse_other_float(name, tensor)
    snap_each(weights.items(), components, seed)


def fixed_note(weights: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The line of a result that says what was done to them."""
    if not weights:
        return ()
    stored_bytes = sum(tensor.nbytes for tensor in weights.values())
    return (
        f"weights that are not trained were clustered first, and the others trained with them: "
        f"{first_few(list(weights), ', ')} ({stored_bytes:,} bytes)",
    )
