"""Checks of a saved alternation: every tensor and number of its stage, before any of it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sws_compress.errors import ArgumentError
from sws_compress.train.saved_state import check_number, check_optimizer, check_tensor
from sws_compress.train.schedule import Stage
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages.tune import codebook_optimizer

CANNOT_FIT = "delete the file to start anew"


def check_alternation(saved: dict[str, Any], groups: Sequence[ParameterGroup]) -> None:
    """Raise an error unless ``saved`` is what ``Alternation.state_dict`` returns for these groups.

    A state that lacks parts raises KeyError or TypeError, whatever reading it raises.
    """
    check_number("steps", saved["steps"], whole=True, least=0)
    stage, state = Stage(saved["stage"]), saved["state"]
    if stage is Stage.SOFT:
        _check_soft(state, groups)
        return
    check_number("price of a bit", state["weights"]["bit_price"], least=0)
    _check_lengths(groups, state["weights"]["groups"])
    for group, own in zip(groups, state["weights"]["groups"], strict=True):
        _check_group(group, own)
    if stage is Stage.HARD:
        check_number("EM steps", state["updates"], whole=True, least=0)
        if state["first_learning_rate"] is not None:
            check_number("learning rate", state["first_learning_rate"], least=0)
        for name, value in state["price"].items():
            check_number(name, value, least=0)
    else:
        check_optimizer(state["optimizer"], codebook_optimizer([own["codebook"] for own in state["weights"]["groups"]]))


def _check_lengths(groups: Sequence[ParameterGroup], *lists: Any) -> None:
    for entries in lists:
        if not isinstance(entries, list) or len(entries) != len(groups):
            raise ArgumentError(f"saved groups must be {len(groups)} as in the run, got another number: {CANNOT_FIT}")


def _check_soft(state: dict[str, Any], groups: Sequence[ParameterGroup]) -> None:
    _check_lengths(groups, state["scales"], state["gradient_rms"], state["ranges"], state["mixtures"])
    for value in (*state["scales"], *state["gradient_rms"]):
        check_number("scale", value, least=0)
    for group, ends, arrays in zip(groups, state["ranges"], state["mixtures"], strict=True):
        for value in ends or ():
            check_number(f"range of {group.label!r}", value)
        if ends is not None and len(ends) != 2:
            raise ArgumentError(f"saved range of {group.label!r} must have two ends, got {len(ends)}: {CANNOT_FIT}")
        weights, means, variances = arrays
        for array in (weights, means, variances):
            check_tensor(f"mixture of {group.label!r}", array, (len(weights),), torch.float64)


def _check_group(group: ParameterGroup, own: dict[str, Any]) -> None:
    """Check the state of one group from the hard stage on."""
    components = len(own["codebook"])
    for name, dtype in (("codebook", torch.float32), ("weights", torch.float64), ("occupancy", torch.float64)):
        check_tensor(f"{name} of {group.label!r}", own[name], (components,), dtype)
    check_number("mergers", own["mergers"], whole=True, least=0)
    for name, dtype in (
        ("latent", torch.float32),
        ("assignment", torch.uint8),
        ("sensitivity", torch.float32),
        ("squares", torch.float32),
    ):
        for label, parameter, member in zip(group.names, group.parameters, own[name], strict=True):
            if member is not None or name in ("latent", "assignment"):
                check_tensor(f"{name} of {label!r}", member, parameter.shape, dtype)
    for label, assignment in zip(group.names, own["assignment"], strict=True):
        greatest = int(assignment.max()) if assignment.numel() else 0
        if greatest >= components:
            raise ArgumentError(
                f"saved assignment of {label!r} must be < {components}, the number of components, got {greatest}: "
                f"{CANNOT_FIT}"
            )
