"""The networks that a run keeps as it goes: the best of those that were asked for, and the smallest that works."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sws_compress.train.collapse import GREATEST_LOSS_SHARE
from sws_compress.train.saved_state import check_number, check_state_dict
from sws_compress.train.select import ParameterGroup


@dataclass(frozen=True)
class Rating:
    """What is known of a snapped network.

    Parameters
    ----------
    coded_bits : float
        Its size.
    share_lost : float
        See ``Collapse.share_lost``.
    metric : float or None
        The caller's metric, with the sign of which more is better; None without one, or before it was measured.
    fits : bool
        Whether it is what was asked for: at or below a size, or within a drop of the metric.
    """

    coded_bits: float
    share_lost: float
    metric: float | None
    fits: bool

    @property
    def works(self) -> bool:
        """Whether most of what the float network tells beyond constant outputs is left."""
        finite = self.metric is None or math.isfinite(self.metric)
        return finite and self.share_lost <= GREATEST_LOSS_SHARE

    def better_than(self, other: Rating) -> bool:
        """Whether the metric is higher; without a metric, whether less is lost."""
        if self.metric is not None and other.metric is not None:
            return self.metric > other.metric
        return self.share_lost < other.share_lost

    def smaller_than(self, other: Rating) -> bool:
        """Whether it has fewer coded bits."""
        return self.coded_bits < other.coded_bits


@dataclass(frozen=True)
class Kept:
    """A network and its rating."""

    rating: Rating
    model: dict[str, torch.Tensor]


class BestNetworks:
    """Keeps up to two networks that work: the best that fits, and the smallest.

    Parameters
    ----------
    model : torch.nn.Module
        The network that is trained.
    by_size : bool
        Whether the smallest of those that fit is the best one.

    Attributes
    ----------
    best, smallest : Kept or None
        The best network of those that fit, and the smallest of all.
    """

    def __init__(self, model: nn.Module, *, by_size: bool) -> None:
        self._model, self._by_size = model, by_size
        self.best: Kept | None = None
        self.smallest: Kept | None = None

    def offer(self, rating: Rating) -> None:
        """Keep the network as it is, if it works and is better or smaller than those before."""
        if not rating.works:
            return
        best = rating.fits and (self.best is None or self._beats(rating, self.best.rating))
        smallest = self.smallest is None or rating.smaller_than(self.smallest.rating)
        if not best and not smallest:
            return
        kept = Kept(rating, {name: value.detach().clone() for name, value in self._model.state_dict().items()})
        self.best = kept if best else self.best
        self.smallest = kept if smallest else self.smallest

    def instead_of(self, last: Rating) -> Kept | None:
        """The network to end with, if it is not the last one."""
        if self.best is not None and not (last.works and last.fits and not self._beats(self.best.rating, last)):
            return self.best
        if last.works:
            return None
        return self.smallest

    def _beats(self, one: Rating, other: Rating) -> bool:
        return one.smaller_than(other) if self._by_size else one.better_than(other)

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers and dicts."""
        return {name: _saved(kept) for name, kept in (("best", self.best), ("smallest", self.smallest))}

    def check_saved(self, saved: dict[str, Any]) -> None:
        """Raise an error unless ``saved`` is what `state_dict` returns for this network."""
        for name in ("best", "smallest"):
            own = saved[name]
            if own is None:
                continue
            check_rating(own)
            check_state_dict("network", own["model"], self._model.state_dict())

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best, self.smallest = _restored(saved["best"]), _restored(saved["smallest"])


def check_rating(saved: Mapping[str, Any]) -> None:
    """Raise an error unless ``saved`` holds the fields of a `Rating`."""
    check_number("coded bits", saved["coded_bits"], least=0)
    check_number("share lost", saved["share_lost"], least=0)
    if saved["metric"] is not None:
        check_number("metric", saved["metric"])
    if not isinstance(saved["fits"], bool):
        raise TypeError(type(saved["fits"]))  # which makes it another file, as a missing entry does


def _saved(kept: Kept | None) -> dict[str, Any] | None:
    return None if kept is None else {**vars(kept.rating), "model": kept.model}


def _restored(saved: dict[str, Any] | None) -> Kept | None:
    if saved is None:
        return None
    return Kept(Rating(**{name: value for name, value in saved.items() if name != "model"}), saved["model"])


@torch.no_grad()
def restore(model: nn.Module, groups: Iterable[ParameterGroup], kept: Kept) -> None:
    """Make ``model`` a network that was kept, its codebooks rounded to float16 where they fit."""
    model.load_state_dict(kept.model)
    for group in groups:
        values = torch.unique(torch.cat([parameter.detach().flatten() for parameter in group.parameters]))
        halves = values.half().float()
        if halves.isfinite().all() and len(torch.unique(halves)) == len(values):
            for parameter in group.parameters:
                parameter.copy_(parameter.half().to(parameter.dtype))
