"""Weights that a module computes from other parameters: weight norm and other parametrisations.

A codebook in the parameters does not give the computed weight few values: weight norm, for one, scales each row by a
factor of its own. Such weights are refused, and the error names the call that turns them into ordinary parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

from sws_compress.errors import ModelError


def originals(module: nn.Module) -> list[tuple[str, tuple[str, ...], torch.Tensor]]:
    """Parametrised tensors of a module, without those of its children.

    Parameters
    ----------
    module : torch.nn.Module
        Any module.

    Returns
    -------
    list of (str, tuple of str, tensor)
        Name of the tensor, names of the parameters it is computed from, and the tensor itself.
    """
    if not parametrize.is_parametrized(module):
        return []
    lists = module.parametrizations
    assert isinstance(lists, nn.ModuleDict)
    return [
        (
            tensor,
            tuple(f"parametrizations.{tensor}.{name}" for name, _ in parts.named_parameters(recurse=False)),
            getattr(module, tensor).detach(),
        )
        for tensor, parts in lists.items()
    ]


def refuse_computed(model: nn.Module, chosen: Iterable[nn.Parameter]) -> None:
    """Refuse parameters that a weight is computed from.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    chosen : iterable of torch.nn.Parameter
        Parameters that are to be compressed.

    Raises
    ------
    ModelError
        If one of them is an original of a parametrised weight.
    """
    wanted = {id(parameter) for parameter in chosen}
    for prefix, module in model.named_modules():
        for tensor, parts, how, cure in _computed(module):
            if any(id(part) in wanted for part in parts):
                name = f"{prefix}.{tensor}" if prefix else tensor
                owner = f"model.get_submodule({prefix!r})"
                raise ModelError(
                    f"{name} must be an ordinary parameter to be compressed, got one computed by {how}: call "
                    f"torch.nn.utils.{cure}({owner}, {tensor!r}) before the optimizer is made, or leave it out with "
                    "parameters="
                )


def _computed(module: nn.Module) -> Iterator[tuple[str, list[nn.Parameter], str, str]]:
    """Computed tensors of a module: name, parameters, kind of computation, and the function that ends it."""
    for tensor, names, _ in originals(module):
        steps = module.get_submodule(f"parametrizations.{tensor}")
        how = ", ".join(type(step).__name__.lstrip("_") for step in steps.children())
        yield tensor, [module.get_parameter(name) for name in names], how, "parametrize.remove_parametrizations"
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):  # the older form, which torch.nn.utils.weight_norm still makes
            parts = [module.get_parameter(f"{hook.name}_{end}") for end in "gv"]
            yield hook.name, parts, "WeightNorm", "remove_weight_norm"
