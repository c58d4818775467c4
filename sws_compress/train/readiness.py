"""Whether an object is a torch module that can be compressed: one with float weights that are there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from sws_compress.errors import ArgumentError, ModelError

_QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.sparse.quantized",
)
"""Packages of layers whose weights are integers."""


def checked_module(model: object) -> nn.Module:
    """``model``, without DistributedDataParallel or DataParallel around it.

    Raises
    ------
    ArgumentError
        If it is no module.
    ModelError
        If it is compiled to TorchScript or quantised, or if a tensor of it has no values yet.

    Examples
    --------
    >>> checked_module(nn.Linear(3, 5).state_dict())
    Traceback (most recent call last):
    ...
    sws_compress.errors.ArgumentError: model must be a torch module or the path of an ONNX file, got a state dict: ...
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch module or the path of an ONNX file, got {_found(model)}")
    network: nn.Module = model
    while isinstance(network, nn.parallel.DistributedDataParallel | nn.DataParallel):
        network = network.module
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            f"model must be an ordinary module, got {type(network).__name__}: pass the one that was scripted or traced"
        )
    for name, part in network.named_modules():
        if type(part).__module__.startswith(_QUANTISED):
            raise ModelError(
                f"{name or 'model'} must be a float layer, got a quantised {type(part).__name__}: pass the "
                "network from before it was quantised"
            )
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ModelError(
                f"{name} must be initialised, got one of a lazy layer: call the model once, and train it or load its "
                "weights"
            )
        if tensor.is_meta:
            raise ModelError(
                f"{name} must have values, got a tensor on the meta device: load the weights, as with "
                "load_state_dict(..., assign=True)"
            )
    return network


def _found(model: object) -> str:
    """What was given instead of a module, and the cure."""
    if isinstance(model, Mapping) and any(isinstance(value, torch.Tensor) for value in model.values()):
        return "a state dict: build the module, call its load_state_dict, and pass the module"
    if isinstance(model, type):
        return f"the class {model.__name__}: pass an instance of it"
    kind = type(model).__name__
    if kind == "ExportedProgram":
        return f"{kind}: pass the module that was exported"
    if kind == "ModelProto":
        return f"{kind}: save it with onnx.save, and pass the path"
    if callable(model):
        return f"{kind}: put the function into the forward of a torch.nn.Module"
    return f"{kind}: pass one of them"
