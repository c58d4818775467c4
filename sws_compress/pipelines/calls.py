"""Calls of torch modules: the caller's example inputs as positional arguments, and what a module answers to them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sws_compress.errors import DataError, ModelError
from sws_compress.messages import first_line
from sws_compress.onnx_io.from_torch import evaluating

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[Any]


def positional(module: nn.Module, example_inputs: Any) -> tuple[Any, ...]:
    """Positional arguments of one call.

    Parameters
    ----------
    module : nn.Module
        The module that is called.
    example_inputs
        A tuple of them, a dict of arguments by name, or a lone argument. Arrays become tensors.
    """
    import torch
    from torch.utils import _pytree as pytree

    inputs = pytree.tree_map_only(np.ndarray, torch.from_numpy, example_inputs)
    if isinstance(inputs, Mapping):
        return _by_name(module, inputs) or (inputs,)
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _by_name(module: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Arguments by name in the order of ``forward``, with its defaults between; empty if these are not their names."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(**inputs)
    except TypeError:
        return ()
    bound.apply_defaults()
    last = max(list(bound.arguments).index(name) if name in bound.arguments else -1 for name in inputs)
    kinds = [signature.parameters[name].kind for name in list(bound.arguments)[: last + 1]]
    if last < 0 or any(kind != inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds):
        return ()
    return tuple(bound.arguments.values())[: last + 1]


def outputs_of(module: nn.Module, examples: tuple[Any, ...]) -> list[Array]:
    """Outputs of one call in evaluation mode, flattened in the order of the exported graph."""
    import torch

    with evaluating(module), torch.no_grad():
        return arrays(module(*examples))


EXAMPLES_CURE = "pass the arguments of one call as a tuple, or as a dict by name, of its types, on its device"
"""What to do about example inputs that a module does not take."""


def tried(
    module: nn.Module,
    examples: tuple[Any, ...],
    source: str = "example_inputs",
    cure: str = EXAMPLES_CURE,
) -> list[Array]:
    """Outputs of the first call of a module.

    Parameters
    ----------
    module : nn.Module
        The caller's module.
    examples : tuple
        Positional arguments.
    source, cure : str
        Where they come from, and what to do about them, for messages.

    Raises
    ------
    DataError
        If the module does not take them.
    ModelError
        If it does not return tensors.
    """
    import torch
    from torch.utils import _pytree as pytree

    try:
        with evaluating(module), torch.no_grad():
            outputs = module(*examples)
    except Exception as error:  # whatever the module raises
        raise DataError(
            f"{source} must be arguments that {type(module).__name__} takes, got {_kinds(examples)} "
            f"({type(error).__name__}: {first_line(error)}): {cure}"
        ) from error
    for leaf in pytree.tree_leaves(outputs):
        if leaf is not None and not isinstance(leaf, torch.Tensor):
            kind = type(leaf).__name__
            cure = "set model.config.use_cache = False" if "Cache" in kind else "return tensors alone"
            raise ModelError(f"{type(module).__name__} must return tensors, got {kind} among its outputs: {cure}")
    return arrays(outputs)


def arrays(tree: Any) -> list[Array]:
    """The tensors in nested tuples, lists and dicts. Raises ModelError if one of them is bfloat16."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = [leaf.detach() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    if any(leaf.dtype == torch.bfloat16 for leaf in leaves):
        raise ModelError("inputs and outputs must not be bfloat16, got one: cast them to float32")
    return [leaf.cpu().numpy() for leaf in leaves]


def _kinds(examples: tuple[Any, ...]) -> str:
    """What the arguments are, in short."""
    return ", ".join(_kind(value) for value in examples[:4]) or "none"


def _kind(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(str, list(value)[:4]))}"
    return type(value).__name__
