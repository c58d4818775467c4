"""Weights that cannot be computed from parameters with few values: normed by row, or orthogonal.

A row of zeros, which clustering makes, has no direction that weight norm could scale: the weight becomes NaN. And no
exporter writes how an orthogonal weight is computed. Such weights are refused before a run, and the error names the
call that turns them into ordinary parameters. What other parametrisations compute is computed in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.weight_norm import WeightNorm

from sws_compress.errors import ModelError

_REFUSED = (parametrizations._WeightNorm, parametrizations._Orthogonal)


def refuse_computed(model: nn.Module, chosen: Iterable[nn.Parameter]) -> None:
    """Refuse parameters behind weight norm and orthogonal weights.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    chosen : iterable of torch.nn.Parameter
        Parameters that are to be compressed.

    Raises
    ------
    ModelError
        If one of them is an original of such a weight.
    """
    wanted = {id(parameter) for parameter in chosen}
    for prefix, module in model.named_modules():
        for tensor, parts, how, cure in _refused(module):
            if any(id(part) in wanted for part in parts):
                name = f"{prefix}.{tensor}" if prefix else tensor
                owner = f"model.get_submodule({prefix!r})"
                raise ModelError(
                    f"{name} must be an ordinary parameter to be compressed, got one computed by {how}: call "
                    f"torch.nn.utils.{cure}({owner}, {tensor!r}) before the optimizer is made, or leave it out with "
                    "parameters="
                )


def _refused(module: nn.Module) -> Iterator[tuple[str, list[nn.Parameter], str, str]]:
    """Such tensors of a module: name, parameters, kind of computation, and the function that ends it."""
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        for tensor, steps in module.parametrizations.items():
            found = [type(step).__name__ for step in steps.children() if isinstance(step, _REFUSED)]
            if found:
                how = ", ".join(name.lstrip("_") for name in found)
                yield tensor, list(steps.parameters(recurse=False)), how, "parametrize.remove_parametrizations"
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):  # the older form, which torch.nn.utils.weight_norm still makes
            parts = [module.get_parameter(f"{hook.name}_{end}") for end in "gv"]
            yield hook.name, parts, "WeightNorm", "remove_weight_norm"
