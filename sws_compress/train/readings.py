"""Readings of the compressed parameters over all ranks: histograms of the latent weights, palettes of snapped ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.quantize.palette import Palette, palette_of
from sws_compress.train.device_histogram import moment_table
from sws_compress.train.ranks import Ranks, is_sharded, local
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages.soft import agreed_grids


def latent_histograms(
    groups: Sequence[ParameterGroup],
    latents: Mapping[str, torch.Tensor],
    ranks: Ranks,
    ranges: Mapping[str, tuple[float, float]] | None,
    bins: int,
) -> dict[str, WeightHistogram]:
    """Histogram of every parameter's latent weights; see ``SoftWeightSharing.histograms``."""
    owners = [group for group in groups for _ in group.names]
    if ranges is None:
        grids = agreed_grids(owners, [[part] for part in latents.values()], ranks)
    else:
        grids = [ranges[name] for name in latents]
    parameters = [parameter for group in groups for parameter in group.parameters]
    tables = []
    for parameter, part, (low, high) in zip(parameters, latents.values(), grids, strict=True):
        counted = part if ranks.counts(parameter) else part[:0]
        tables.append(moment_table(counted, low=low, high=high, bins=bins))
    histograms = {}
    for owner, name, grid, table in zip(owners, latents, grids, ranks.sums(tables), strict=True):
        if not bool(table.isfinite().all()):
            raise owner.diverged()
        histograms[name] = WeightHistogram.of_moments(*grid, table.cpu().numpy())
    return histograms


def held_palettes(groups: Sequence[ParameterGroup], ranks: Ranks) -> dict[str, Palette]:
    """Palette of every parameter as it is, by name; see ``SoftWeightSharing.palettes``."""
    palettes = {}
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            whole = ranks.whole(local(parameter), parameter)
            if is_sharded(parameter) and ranks.rank != 0:
                continue
            palette = palette_of(whole.float().cpu().numpy())
            assert palette is not None  # it holds at most as many values as there are components
            palettes[name] = palette
    return palettes
