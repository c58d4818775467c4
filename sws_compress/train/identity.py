"""What tells one run from another: its settings by name, and digests of the weights that it starts from."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.train.ranks import local, undistributed
from sws_compress.train.request import FineTuned
from sws_compress.train.select import plain_name
from sws_compress.train.targets import SteeringTarget

LEARNING_RATE = "learning_rate"

NO_SETTINGS = ("train", "loss", "state", "log", "frames")
"""Fields of a request that may differ between two parts of one run."""


def settings_by_name(settings: Any) -> dict[str, Any]:
    """Fields of a dataclass that hold numbers, strings, enums, None or tuples of numbers, by name.

    Fields of a dataclass inside are named like ``schedule.floor``. Anything else, such as a callable or a module, is
    left out. Numbers are Python's own, which a saved state may hold.

    Parameters
    ----------
    settings : dataclass
        The settings.

    Returns
    -------
    dict
        Plain values by name.
    """
    found: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            found |= {f"{field.name}.{name}": inner for name, inner in settings_by_name(value).items()}
        elif isinstance(value, enum.Enum):
            found[field.name] = value.value
        elif value is None or isinstance(value, str):
            found[field.name] = value
        elif isinstance(value, Real):
            found[field.name] = _plain_number(value)
        elif isinstance(value, tuple) and all(isinstance(each, Real) for each in value):
            found[field.name] = tuple(map(_plain_number, value))
    return found


def _plain_number(value: Any) -> bool | int | float:
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def weights_digest(model: nn.Module) -> str:
    """First 16 hexadecimal digits of SHA-256 over names, types, shapes and bytes of the parameters.

    One parameter at a time is copied to CPU memory. Wrappers such as DataParallel and ``torch.compile`` do not count.
    """
    digest = hashlib.sha256()
    for name, parameter in undistributed(model).named_parameters():
        weights = local(parameter).cpu().contiguous()
        digest.update(f"{plain_name(name)} {weights.dtype} {list(weights.shape)}\n".encode())
        digest.update(weights.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def run_identity(
    request: FineTuned, target: SteeringTarget | None, seed: int, model: nn.Module, teacher: nn.Module | None
) -> dict[str, Any]:
    """Identity of a run, by name: its settings, the weights that it begins with, and those of its teacher.

    Parameters
    ----------
    request : FineTuned
        Settings of the run.
    target : SteeringTarget or None
        What the run is steered to.
    seed : int
        Seed of the run.
    model, teacher : torch.nn.Module
        The network at the start of the run, and a teacher other than the network itself.

    Returns
    -------
    dict
        Plain values, which a saved state may hold.
    """
    settings = {name: value for name, value in settings_by_name(request).items() if name not in NO_SETTINGS}
    wanted = {} if target is None else settings_by_name(target)
    return {
        **settings,
        **{f"target.{name}": value for name, value in wanted.items()},
        "seed": seed,
        "digest of the weights at the start": weights_digest(model),
        "digest of the teacher's weights": None if teacher is None else weights_digest(teacher),
    }


def refuse_other_run(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise ArgumentError unless both are of one run, or ``saved`` is of one that broke down at any learning rate."""
    if saved[LEARNING_RATE] is None:
        own = {**own, LEARNING_RATE: None}
    refuse_other(saved, own, "use the same network and settings, or another state path")


def at_any_rate(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Identity of a run that broke down: it may go on with another learning rate."""
    return {**identity, LEARNING_RATE: None}


def refuse_other(saved: Mapping[str, Any], own: Mapping[str, Any], cure: str) -> None:
    """Raise ArgumentError for the first setting, by name, that differs between ``saved`` and ``own``.

    A name that one of them lacks counts as None there.
    """
    for name in dict.fromkeys([*own, *saved]):
        wanted, found = saved.get(name), own.get(name)
        if wanted != found:
            raise ArgumentError(f"{name} must be {wanted} as in the saved run, got {found}: {cure}")
