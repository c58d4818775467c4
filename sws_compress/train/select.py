"""Which parameters are compressed, and which of them share one mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sws_compress.errors import ArgumentError, ModelError, TrainingError
from sws_compress.thresholds import SMALLEST_WEIGHT
from sws_compress.train.computed import originals, refuse_computed
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
"""MultiheadAttention's own; its output projection is a linear module."""

NORMS: tuple[type[nn.Module], ...] = (nn.LayerNorm, nn.RMSNorm)
"""Whose ``weight`` may have several dimensions and yet is no matrix."""

Selection = Callable[[str, nn.Parameter], bool] | Iterable[str]


class DivergedError(TrainingError):
    """What is not finite any more, and the cure apart: whoever saves states knows it better than who finds it out."""

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found, cure)
        self.found = found

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share one mixture; ``names[i]`` is the qualified name of ``parameters[i]``."""

    label: str
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of the members, whole, by name."""
        return {name: list(parameter.shape) for name, parameter in zip(self.names, self.parameters, strict=True)}

    @property
    def elements(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    def shards(self) -> list[torch.Tensor]:
        """What this rank holds of each member: the same memory, detached."""
        return [local(parameter) for parameter in self.parameters]

    def counted(self, ranks: Ranks) -> list[torch.Tensor]:
        """The ``shards`` that this rank counts: over all ranks, every weight once."""
        return [local(parameter) for parameter in self.parameters if ranks.counts(parameter)]

    def values(self) -> npt.NDArray[np.float32]:
        """All members end to end, shape (elements,), a copy in CPU memory."""
        return torch.cat([p.detach().reshape(-1).float().cpu() for p in self.parameters]).numpy()

    @torch.no_grad()
    def write(self, values: npt.NDArray[np.float32]) -> None:
        """Set all members from ``values`` (elements,)."""
        parts = torch.split(torch.from_numpy(values), [parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.copy_(part.view(parameter.shape))

    def diverged(self) -> DivergedError:
        """What to raise when training has made a member NaN or infinite."""
        return DivergedError(
            f"{', '.join(self.names)} must stay finite in training, got NaN or infinite weights",
            "lower the learning rate and go on from the last saved state",
        )

    def standard_deviation(self) -> float:
        """Root of the mean squared deviation over all members, in the weights' unit."""
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        return float(flat.double().std(correction=0))


def default_weights(model: nn.Module, smallest: int) -> frozenset[str]:
    """Names of the weights of linear, convolution, embedding, recurrent and attention modules.

    A parameter of two dimensions or more that is called ``weight`` counts as one whatever its module, unless that is a
    norm: transformers.GPT2 has linear layers of a type of its own. Those with fewer than ``smallest`` elements are left
    out: their codebook would cost more than it saves. Of a parametrised weight, the names of its originals.
    """
    chosen: set[str] = set()
    for prefix, module in model.named_modules():
        held = [(name, (name,), parameter) for name, parameter in module.named_parameters(recurse=False)]
        for name, names, tensor in held + originals(module):
            if tensor.numel() >= smallest and _is_weight(module, name, tensor):
                chosen.update(f"{prefix}.{each}" if prefix else each for each in names)
    return frozenset(map(plain_name, chosen))


def _is_weight(module: nn.Module, name: str, tensor: torch.Tensor) -> bool:
    if isinstance(module, WEIGHT_MODULES):
        return name.startswith(("weight", *ATTENTION_WEIGHTS))
    return name == "weight" and tensor.dim() >= 2 and not isinstance(module, NORMS)


def plain_name(name: str) -> str:
    """A parameter's name in the module as it was before ``torch.compile`` wrapped it or a part of it."""
    return name.replace("_orig_mod.", "")


def select_parameters(
    model: nn.Module,
    parameters: Selection | None = None,
    *,
    sharing: Sharing = Sharing.TENSOR,
    smallest: int = SMALLEST_WEIGHT,
    ranks: Ranks = ALONE,
) -> tuple[ParameterGroup, ...]:
    """Groups of trainable float parameters, tied parameters once, in the order of ``model.named_parameters()``.

    ``parameters`` is a predicate on (name, parameter), an iterable of names, or None for ``default_weights``. A tied
    parameter may be named by any of its names; it is known here by its first. Names are ``plain_name``s.

    Raises ArgumentError for names that the model does not have or that are not trainable, for devices and layouts that
    cannot be trained, and, on all ranks, when ``ranks`` have not chosen the same; ModelError, on all ranks, when
    nothing is left to compress, a tensor holds NaN or infinities, or what is compressed would not be what the network
    multiplies by (``refuse_computed``).
    """
    refuse_flattened(model)
    # named_parameters() yields a tied parameter once, under its first name
    named = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    chosen = _chosen_names(model, named, parameters, smallest)
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
        raise ModelError(
            f"a model must have a trainable weight of at least {smallest} elements to compress, "
            f"got none among {len(named)} parameters: name some with parameters="
        )
    _check_values({name: named[name] for group in groups for name in group.names}, ranks)
    return groups


def _chosen_names(
    model: nn.Module, named: dict[str, nn.Parameter], parameters: Selection | None, smallest: int
) -> frozenset[str]:
    if callable(parameters):
        return frozenset(name for name, parameter in named.items() if parameters(name, parameter))
    aliases = {plain_name(name): parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
    names = default_weights(model, smallest) if parameters is None else _checked_names(parameters, aliases)
    # A tied weight may carry its first name under a module that is not of a weight type, or not the name that the
    # caller knows it by: go by identity.
    wanted = {id(aliases[name]) for name in names}
    return frozenset(name for name, parameter in named.items() if id(parameter) in wanted)


def _checked_names(parameters: Iterable[str], known: dict[str, nn.Parameter]) -> frozenset[str]:
    if isinstance(parameters, str):
        raise ArgumentError(f"parameters must be several names, got the string {parameters!r}: put it in a list")
    names = frozenset(map(plain_name, parameters))
    for name in sorted(names):
        if name not in known:
            raise ArgumentError(
                f"parameters must be names of model.named_parameters(), got {name!r}: "
                f"known names start with {', '.join(list(known)[:4])}"
            )
        if not known[name].requires_grad:
            raise ArgumentError(f"parameters must be trainable, got {name!r}: leave it out or set its requires_grad")
    return names


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
