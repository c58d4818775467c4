"""Calls of torch modules: the caller's example inputs as positional arguments, and what a module answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from sws_compress.errors import DataError, ModelError
from sws_compress.messages import first_line
from sws_compress.module_modes import evaluating

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[Any]

EXAMPLE_ROWS = 8
"""Rows of the first training or calibration inputs that serve as example inputs where the caller gives none."""


def positional(module: nn.Module, example_inputs: Any) -> tuple[Any, ...]:
    """Positional arguments of one call, on the device of the module.

    Parameters
    ----------
    module : nn.Module
        The module that is called.
    example_inputs
        A tuple of them, a dict of arguments by name, or a lone argument. Arrays become tensors. Labels that a
        tokeniser's collator puts into the dict are left out where ``forward`` has a default for them.

    Raises
    ------
    DataError
        If ``forward`` does not take the arguments by name, or takes one of them by name alone.
    """
    from sws_compress.train.batches import called_by_name, tensors, without_targets

    inputs = tensors(example_inputs, module)
    if isinstance(inputs, dict):
        named = without_targets(inputs, module)
        return _in_order(module, named) if called_by_name(module, named) else (inputs,)
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _in_order(module: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Arguments by name in the order of ``forward``, with its defaults between."""
    from sws_compress.train.batches import signature_of

    signature = signature_of(module)
    try:
        bound = signature.bind(**inputs)
    except TypeError as error:
        raise DataError(
            f"example_inputs must be arguments that {type(module).__name__} takes, got {', '.join(map(str, inputs))} "
            f"(TypeError: {first_line(error)}): forward takes {', '.join(signature.parameters)}"
        ) from error
    bound.apply_defaults()
    order = [name for name, each in signature.parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    by_name_alone = [name for name in inputs if name not in order]
    if by_name_alone:
        raise DataError(
            f"example_inputs must be arguments that {type(module).__name__} takes by position, got "
            f"{', '.join(map(str, by_name_alone))} by name alone: wrap it in a module whose forward takes them in order"
        )
    last = max(map(order.index, inputs), default=-1)
    return tuple(bound.arguments[name] for name in order[: last + 1])


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

    from sws_compress.train.batches import Batch
    from sws_compress.train.model_calls import called

    with evaluating(module), torch.no_grad():
        outputs = called(module, Batch(examples), source, cure)
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
