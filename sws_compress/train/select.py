"""Selection of the parameters to compress, and their groups: one group shares one mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sws_compress.errors import ArgumentError, ModelError, TrainingError
from sws_compress.messages import shown
from sws_compress.thresholds import SMALLEST_TRAINED_WEIGHT
from sws_compress.train.computed import refuse_computed
from sws_compress.train.ranks import ALONE, Ranks, local, refuse_flattened
from sws_compress.train.sharing import Sharing

WEIGHT_MODULES: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)

ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""First words of the weights that MultiheadAttention holds itself; its output projection is a linear module."""

NORMS: tuple[type[nn.Module], ...] = (nn.LayerNorm, nn.RMSNorm)
"""Modules whose ``weight`` may have several dimensions and yet is no matrix."""

Selection = Callable[[str, nn.Parameter], bool] | Iterable[str]
"""Parameters to compress: a predicate on (name, parameter), or names."""


class DivergedError(TrainingError):
    """Something is not finite any more.

    What was found and the cure are kept apart: whoever saves states knows a better cure than who finds it out.

    Parameters
    ----------
    found : str
        Thing, rule and value.
    cure : str
        What the user can do.
    """

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found, cure)
        self.found = found

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share one mixture: the members of a group.

    Parameters
    ----------
    label : str
        Name of the tensor or of the module; empty for the whole model.
    names : tuple of str
        Qualified names of the members.
    parameters : tuple of torch.nn.Parameter
        The members, in the same order.
    """

    label: str
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shapes of the whole members, by name."""
        return {name: list(parameter.shape) for name, parameter in zip(self.names, self.parameters, strict=True)}

    @property
    def elements(self) -> int:
        """Number of weights, over all members and ranks."""
        return sum(parameter.numel() for parameter in self.parameters)

    def shards(self) -> list[torch.Tensor]:
        """The part of each member on this rank: the same memory, detached."""
        return [local(parameter) for parameter in self.parameters]

    def counted(self, ranks: Ranks) -> list[torch.Tensor]:
        """The `shards` that statistics count on this rank: over all ranks, every weight once."""
        return [local(parameter) for parameter in self.parameters if ranks.counts(parameter)]

    def values(self) -> npt.NDArray[np.float32]:
        """Values of all members end to end, shape (elements,), float32: a copy in CPU memory."""
        return torch.cat([p.detach().reshape(-1).float().cpu() for p in self.parameters]).numpy()

    @torch.no_grad()
    def write(self, values: npt.NDArray[np.float32]) -> None:
        """Set all members from ``values``, shape (elements,)."""
        parts = torch.split(torch.from_numpy(values), [parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.copy_(part.view(parameter.shape))

    def diverged(self) -> DivergedError:
        """The error to raise when training has made a member NaN or infinite."""
        return DivergedError(
            f"{', '.join(self.names)} must stay finite in training, got NaN or infinite weights",
            "lower the learning rate and go on from the last saved state",
        )


def default_weights(model: nn.Module, smallest: int) -> frozenset[str]:
    """Names of the weights that are compressed by default, frozen ones among them.

    These are the weights of linear, convolution, embedding, recurrent and attention modules, and every parameter
    called ``weight`` of two dimensions or more: transformers.GPT2 has linear layers of a type of its own. Other
    parameters with two dimensions longer than 1, such as the weights of experts, of functional layers and behind a
    parametrisation, and learned positions, are weights as well. Parameters of norms are no weights.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    smallest : int
        Weights with fewer elements are left out: their codebook would cost more than it saves.

    Returns
    -------
    frozenset of str
        Qualified names.
    """
    chosen: set[str] = set()
    for prefix, module in model.named_modules():
        if isinstance(module, NORMS):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{prefix}.{name}" if prefix else name
            if parameter.numel() < smallest or not parameter.is_floating_point():
                continue
            if _is_known_weight(module, name, parameter) or _is_matrix(parameter):
                chosen.add(full_name)
    return frozenset(map(plain_name, chosen))


def _is_known_weight(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(module, WEIGHT_MODULES):
        # The older weight norm has a direction, weight_v, and a length for each row, weight_g.
        is_length = name.endswith("_g") and f"{name[:-1]}v" in module._parameters
        return name.startswith(("weight", *ATTENTION_WEIGHTS)) and not is_length
    return name == "weight" and _is_matrix(parameter)


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether two dimensions or more are longer than 1: scales of channels have shapes such as (1, n, 1, 1)."""
    return sum(length > 1 for length in parameter.shape) >= 2


def plain_name(name: str) -> str:
    """Name of a parameter before ``torch.compile`` wrapped its module or a part of it.

    Examples
    --------
    >>> plain_name("_orig_mod.0.weight")
    '0.weight'
    """
    return name.replace("_orig_mod.", "")


def select_parameters(
    model: nn.Module,
    parameters: Selection | None = None,
    *,
    sharing: Sharing = Sharing.TENSOR,
    smallest: int = SMALLEST_TRAINED_WEIGHT,
    ranks: Ranks = ALONE,
) -> tuple[ParameterGroup, ...]:
    """Choose the parameters to compress, and group those that share a mixture.

    Parameters
    ----------
    model : torch.nn.Module
        The network; only trainable parameters are chosen.
    parameters : callable or iterable of str, optional
        A predicate on ``(name, parameter)``, or names. Default: `default_weights`. A tied parameter may be named by
        any of its names; the result has its first one.
    sharing : Sharing, default Sharing.TENSOR
        Which of them share one mixture.
    smallest : int, optional
        Elements from which a weight is chosen by default.
    ranks : Ranks, optional
        The processes that train together; all of them must choose the same.

    Returns
    -------
    tuple of ParameterGroup
        In the order of ``model.named_parameters()``, tied parameters once.

    Raises
    ------
    ArgumentError
        If a name is unknown or frozen, a device or layout cannot be trained, or the ranks chose differently.
    ModelError
        If nothing is left to compress, a tensor holds NaN or infinite values, or a chosen parameter is behind
        weight norm or an orthogonal weight (`refuse_computed`).

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16))
    >>> [(group.label, group.elements) for group in select_parameters(net)]
    [('0.weight', 512), ('2.weight', 256)]
    """
    refuse_flattened(model)
    # named_parameters() yields a tied parameter once, under its first name
    named = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    chosen = _chosen_names(model, named, parameters, smallest)
    if parameters is not None and not callable(parameters):
        _refuse_frozen(sorted(name for name in chosen if not named[name].requires_grad))
    refuse_computed(model, [p for name, p in named.items() if name in chosen and p.requires_grad])
    members: dict[str, list[str]] = {}
    for name, parameter in named.items():
        if name in chosen and parameter.requires_grad and parameter.numel():
            members.setdefault(_label(name, sharing), []).append(name)
    groups = tuple(
        ParameterGroup(label, tuple(names), tuple(named[name] for name in names)) for label, names in members.items()
    )
    device = next((parameter.device for parameter in named.values()), torch.device("cpu"))
    ranks.check_agreed([(group.label, group.shapes) for group in groups], device)
    if not groups:
        frozen = sum(not parameter.requires_grad for parameter in named.values())
        raise ModelError(
            f"a model must have a trainable weight of at least {smallest} elements to compress, got none among "
            f"{len(named)} parameters ({frozen} of them frozen): name some with parameters="
        )
    _check_values({name: named[name] for group in groups for name in group.names}, ranks)
    return groups


def frozen_weights(
    model: nn.Module, parameters: Selection | None = None, *, smallest: int = SMALLEST_TRAINED_WEIGHT
) -> dict[str, nn.Parameter]:
    """The parameters that `select_parameters` would choose if they were trainable, by name; errors as there."""
    named = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    chosen = _chosen_names(model, named, parameters, smallest)
    found = {name: p for name, p in named.items() if name in chosen and not p.requires_grad and p.numel()}
    _check_values(found, ALONE)
    return found


def _chosen_names(
    model: nn.Module, named: dict[str, nn.Parameter], parameters: Selection | None, smallest: int
) -> frozenset[str]:
    if callable(parameters):
        return frozenset(name for name, parameter in named.items() if parameters(name, parameter))
    aliases = {plain_name(name): parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
    names = default_weights(model, smallest) if parameters is None else _checked_names(parameters, aliases)
    # By identity: the first name of a tied weight may be in a module of another type, or unknown to the caller.
    wanted = {id(aliases[name]) for name in names}
    return frozenset(name for name, parameter in named.items() if id(parameter) in wanted)


def _checked_names(parameters: Iterable[str], known: dict[str, nn.Parameter]) -> frozenset[str]:
    if isinstance(parameters, str) or not isinstance(parameters, Iterable):
        raise ArgumentError(f"parameters must be several names, got {shown(parameters)}: put them in a list")
    names = frozenset(map(plain_name, parameters))
    for name in sorted(names):
        if name not in known:
            raise ArgumentError(
                f"parameters must be names of model.named_parameters(), got {name!r}: "
                f"known names start with {', '.join(list(known)[:4])}"
            )
    return names


def _refuse_frozen(names: Sequence[str]) -> None:
    if names:
        raise ArgumentError(
            f"parameters must be trainable, got {names[0]!r}: leave it out and call cluster_frozen before the loop, or "
            "set its requires_grad"
        )


def _label(name: str, sharing: Sharing) -> str:
    if sharing is Sharing.TENSOR:
        return name
    return name.rpartition(".")[0] if sharing is Sharing.MODULE else ""


def _check_values(chosen: dict[str, nn.Parameter], ranks: Ranks) -> None:
    for name, parameter in chosen.items():
        if not parameter.is_floating_point():
            raise ModelError(f"{name} must be floating point to be clustered, got {parameter.dtype}: leave it out")
        if parameter.device.type == "mps":  # which has no float64, in which ranges and statistics are kept
            raise ArgumentError(f"{name} must be on the CPU or a CUDA device, got mps: call model.cpu() first")
        ranks.check_layout(name, parameter)
    bad = [
        (~torch.isfinite(local(parameter))).sum().double() * ranks.counts(parameter) for parameter in chosen.values()
    ]
    for (name, parameter), count in zip(chosen.items(), ranks.sums(bad), strict=True):
        if count:
            raise ModelError(
                f"{name} must hold finite values, got {int(count)} NaN or infinite of {parameter.numel()}: "
                "train the network again or repair the checkpoint"
            )
