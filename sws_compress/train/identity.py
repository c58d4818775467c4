"""What tells one run from another: its settings by name, and a digest of the weights that it starts from."""

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
from sws_compress.train.select import plain_name

RATE = "learning_rate"


def settings_by_name(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass, those of dataclasses in it as ``schedule.floor``; numbers, strings, None and tuples.

    Anything else, like a callable or a module, is left out.
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
            found[field.name] = _number(value)
        elif isinstance(value, tuple) and all(isinstance(each, Real) for each in value):
            found[field.name] = tuple(map(_number, value))
    return found


def _number(value: Any) -> bool | int | float:
    """Python's own, which a saved state may hold, for NumPy's as well."""
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def weights_digest(model: nn.Module) -> str:
    """Of SHA-256 over names, types, shapes and bytes of the parameters, 16 digits; one at a time in CPU memory."""
    digest = hashlib.sha256()
    for name, parameter in undistributed(model).named_parameters():
        weights = local(parameter).cpu().contiguous()
        digest.update(f"{plain_name(name)} {weights.dtype} {list(weights.shape)}\n".encode())
        digest.update(weights.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def run_identity(settings: Any, model: nn.Module, teacher: nn.Module | None) -> dict[str, Any]:
    """What tells a run from others: its ``settings`` by name, the weights that it begins with and its teacher's."""
    return settings_by_name(settings) | {
        "digest of the weights at the start": weights_digest(model),
        "digest of the teacher's weights": None if teacher is None else weights_digest(teacher),
    }


def refuse_other_run(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise ArgumentError unless these are of one run, or of one that broke down at another learning rate."""
    if saved[RATE] is None:
        own = {**own, RATE: None}
    refuse_other(saved, own, "use the same network and settings, or another state path")


def at_any_rate(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run that broke down: it may go on with another learning rate."""
    return {**identity, RATE: None}


def refuse_other(saved: Mapping[str, Any], own: Mapping[str, Any], cure: str) -> None:
    """Raise ArgumentError for the first of ``own``, by name, that is not as in the ``saved`` run."""
    for name in dict.fromkeys([*own, *saved]):
        wanted, found = saved.get(name), own.get(name)
        if wanted != found:
            raise ArgumentError(f"{name} must be {wanted} as in the saved run, got {found}: {cure}")
