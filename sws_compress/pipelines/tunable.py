"""What may move in a copy of a module while assignments stay: codebooks, scales, biases and norms."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sws_compress.ort.session import Array
from sws_compress.pipelines.calibration_layers import Assigned
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.source import Source, copied
from sws_compress.pipelines.write_back import Holding, held_as_they_are, holdings
from sws_compress.quantize.palette import Palette, half_rounded
from sws_compress.thresholds import MAX_CODEBOOK

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sws_compress.train.tuned_values import TunedCodebook, TunedVector


@dataclass(frozen=True, eq=False)
class Tunable:
    """What moves in a copy of a module, by the names of initialisers."""

    network: nn.Module
    codebooks: Mapping[str, TunedCodebook]
    vectors: Mapping[str, TunedVector]

    def assigned(self, before: Assigned) -> Assigned:
        """The weights with what has moved, in the number formats that they had."""
        moved = {name: moved_palette(before.palettes[name], tuned) for name, tuned in self.codebooks.items()}
        vectors = {name: tuned.values for name, tuned in self.vectors.items()}
        return replace(before, palettes={**before.palettes, **moved}, biases={**before.biases, **vectors})


def tunable_copy(
    source: Source, module: nn.Module, assigned: Assigned, places: Mapping[str, Place], weights: Collection[str]
) -> Tunable:
    """A copy of a module with the assigned weights, and what may move in it.

    Weights that the module computes stay as they were, and so do weights in `places` alone. Codebooks of integers stay
    even.
    """
    from sws_compress.train.tuned_values import TunedVector

    network = copied(module)
    values = assigned.values
    held: dict[str, list[Holding]] = {}
    for holding in list(holdings(source, network, values)):
        known = held.setdefault(holding.origin, [])
        if all(each.tensor is not holding.tensor for each in known):
            known.append(holding)
    dense = _vectors_of(source, network, weights)
    for each in network.parameters():
        each.requires_grad_(False)
    for name, own in held.items():
        for holding in own:
            _write(holding.tensor, holding.of(values[name]))
    codebooks: dict[str, TunedCodebook] = {}
    for name, place in places.items():
        if name not in held:
            continue
        even = place.reach is not None or len(assigned.palettes[name].codebook) > MAX_CODEBOOK
        if (tuned := _tuned_codebook(assigned.palettes[name], held[name], fixed=even)) is not None:
            codebooks[name] = tuned
            for holding in held[name]:
                holding.tensor.requires_grad_(True)
    vectors = {name: TunedVector(tensor) for name, tensor in dense.items() if not _is_few(tensor)}
    for name in vectors:
        dense[name].requires_grad_(True)
    return Tunable(network, codebooks, vectors)


def _tuned_codebook(palette: Palette, held: Sequence[Holding], *, fixed: bool) -> TunedCodebook | None:
    """A palette as it lies in a module; None if nothing of it may move.

    Codebooks that a decoder computes are ``fixed``: only their scales move.
    """
    import torch

    from sws_compress.train.tuned_values import Members, TunedCodebook

    if fixed and palette.scales is None:
        return None
    indices, slices = palette.indices.reshape(palette.shape), None
    if palette.scales is not None:
        numbers = np.arange(palette.scales.count, dtype=np.int32)
        sizes = [size if axis == palette.scales.axis else 1 for axis, size in enumerate(palette.shape)]
        slices = np.broadcast_to(numbers.reshape(sizes), palette.shape)

    def placed(holding: Holding, values: Array) -> torch.Tensor:
        found = np.ascontiguousarray(holding.of(values).astype(np.int32))
        return torch.from_numpy(found).to(holding.tensor.device)

    members = [
        Members(each.tensor, placed(each, indices), None if slices is None else placed(each, slices)) for each in held
    ]
    factors = None if palette.scales is None else palette.scales.values
    return TunedCodebook(palette.codebook.astype(np.float32), factors, members, fixed=fixed)


def _vectors_of(source: Source, network: nn.Module, weights: Collection[str]) -> dict[str, nn.Parameter]:
    """Parameters that are no weights and lie in the graph as they are, each for itself."""
    from sws_compress.train.select import plain_name

    own = held_as_they_are(source, network) - set(weights)
    bits = [_bits(each) for each in (*network.parameters(), *network.buffers())]
    named = ((plain_name(name), parameter) for name, parameter in network.named_parameters())
    return {name: parameter for name, parameter in named if name in own and bits.count(_bits(parameter)) == 1}


def _bits(tensor: Any) -> bytes:
    """A digest of the values of a tensor."""
    return hashlib.sha256(tensor.detach().cpu().numpy().tobytes()).digest()


def _is_few(tensor: Any) -> bool:
    """Whether a vector is all zeros, or small in a file for another reason, which would end if it moved."""
    values = tensor.detach().cpu().numpy().reshape(-1)
    return 2 * len(np.unique(values)) <= values.size or bool((half_rounded(values) == values).all())


def _write(tensor: Any, values: Array) -> None:
    import torch

    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)).view(tensor.shape))


def moved_palette(palette: Palette, tuned: TunedCodebook) -> Palette:
    """A palette with the entries and scales that it has now, rounded to float16 where they were."""
    found = palette
    codebook = tuned.codebook.cpu().numpy()
    if np.array_equal(half_rounded(palette.codebook.astype(np.float32)), palette.codebook):
        codebook = half_rounded(codebook)
    codebook = codebook.astype(palette.codebook.dtype)
    if np.isfinite(codebook).all() and (np.diff(codebook) > 0).all():
        found = replace(found, codebook=codebook)
    if palette.scales is not None and tuned.factors is not None:
        factors = tuned.factors.cpu().numpy()
        if np.array_equal(half_rounded(palette.scales.values), palette.scales.values):
            factors = half_rounded(factors)
        if np.isfinite(factors).all() and (factors > 0).all():
            found = replace(found, scales=replace(palette.scales, values=factors))
    return found
