"""Batches of a training loader: what the model is called with and what it is compared with, devices, and draws."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from sws_compress.errors import DataError

TARGETS = ("labels", "label", "targets", "target")
"""Names of the targets in a batch that is a dict, such as those of a tokeniser's collator."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch, taken apart, on the device of the model.

    Parameters
    ----------
    arguments : tuple
        What the model is called with by position.
    keywords : dict of str to object
        What it is called with by name; with the labels, if ``forward`` takes them.
    targets : object
        What its outputs are compared with; None without labels.
    """

    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    targets: Any = None

    @property
    def inputs(self) -> Any:
        """The inputs alone, as example inputs are given."""
        return self.keywords or self.arguments


def taken_apart(batch: Any, model: nn.Module, *, labelled: bool) -> Batch:
    """Take a batch apart.

    Parameters
    ----------
    batch : object
        A pair (inputs, targets), or a dict with targets under one of the names `TARGETS`. Without labels also a list or
        tuple that begins with the inputs, or the inputs alone. Inputs are one tensor, several in a list or tuple, or a
        dict by the names of ``forward``.
    model : torch.nn.Module
        The model. Arrays become tensors, floats of NumPy of the type of its parameters.
    labelled : bool
        Whether targets are needed.

    Raises
    ------
    DataError
        If a labelled batch has no targets, or if a batch has no rows.
    """
    if isinstance(batch, Mapping):
        inputs, targets = batch, _targets(batch) if labelled else None
    elif not labelled:
        inputs, targets = (batch[0] if isinstance(batch, list | tuple) and batch else batch), None
    elif isinstance(batch, list | tuple) and len(batch) == 2:
        inputs, targets = batch
    else:
        raise DataError(f"train must yield (inputs, targets) pairs, got {_instead_of_a_pair(batch)}")
    inputs, targets = tensors(inputs, model), tensors(targets, model)
    _refuse_empty(inputs)
    if isinstance(inputs, dict):
        named = without_targets(inputs, model, needed=labelled)
        return Batch((), named, targets) if called_by_name(model, named) else Batch((inputs,), {}, targets)
    return Batch(tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,), {}, targets)


def _targets(batch: Mapping[str, Any]) -> Any:
    """The targets in a dict."""
    for name in TARGETS:
        if name in batch:
            return batch[name]
    raise DataError(
        f"batches of train must hold labels, got a dict of {_names(batch)}: name them 'labels', yield (inputs, "
        "targets) pairs, or leave loss out for unlabelled data"
    )


def _instead_of_a_pair(batch: Any) -> str:
    """What a loader yields instead of a pair, and what to do."""
    if isinstance(batch, list | tuple) and len(batch) > 2:
        return f"{len(batch)} values: put the inputs into a tuple, ((first, second), targets)"
    return f"{type(batch).__name__}: leave loss out for unlabelled data"


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(values)[:6])) or "nothing"


def _refuse_empty(inputs: Any) -> None:
    """Raise DataError if inputs are tensors, and none of them has an element."""
    held = list(_leaves(inputs))
    if held and all(value.numel() == 0 for value in held):
        raise DataError(f"batches must have rows, got one of shape {tuple(held[0].shape)}: leave empty batches out")


def _leaves(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)


# -- arguments by name ------------------------------------------------------------------------------------------------


def signature_of(model: nn.Module) -> inspect.Signature:
    """The signature of ``forward``, of what ``torch.compile`` wraps."""
    return inspect.signature(getattr(model, "_orig_mod", model).forward)


def called_by_name(model: nn.Module, inputs: Mapping[str, Any]) -> bool:
    """Whether a dict holds arguments of ``model`` by name; otherwise the dict itself is the argument."""
    signature = signature_of(model)
    if any(name in signature.parameters for name in inputs):
        return True
    try:
        signature.bind(**inputs)
    except TypeError:
        return False
    return True


def without_targets(inputs: Mapping[str, Any], model: nn.Module, *, needed: bool = False) -> dict[str, Any]:
    """Inputs by name without the targets among them, unless ``forward`` has no default for them.

    Parameters
    ----------
    inputs : mapping of str to object
        A batch, as of a tokeniser's collator.
    model : torch.nn.Module
        The model.
    needed : bool
        Whether the targets stay if ``forward`` takes them at all: it computes its own loss then.
    """
    parameters = signature_of(model).parameters

    def stays(name: str) -> bool:
        taken = parameters.get(name)
        return taken is not None and (needed or taken.default is taken.empty)

    return {name: value for name, value in inputs.items() if name not in TARGETS or stays(name)}


# -- tensors ----------------------------------------------------------------------------------------------------------


def tensors(value: Any, model: nn.Module) -> Any:
    """Tensors and arrays as tensors on the device of ``model``, also those in lists, tuples and dicts.

    Floats of NumPy, which are float64 by default, get the type of the parameters. Mappings become dicts. Anything else
    stays as it is.
    """
    parameter = next((each for each in model.parameters() if each.is_floating_point()), torch.zeros(()))
    return _moved(value, parameter.device, parameter.dtype)


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        held = torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))  # a copy, which may be written to
        return held.to(device, dtype if held.is_floating_point() else held.dtype)
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return kind(_moved(item, device, dtype) for item in value)
    if isinstance(value, Mapping):
        return {name: _moved(item, device, dtype) for name, item in value.items()}
    return value


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators of the CPU and of ``device`` for one epoch, and put them back afterwards."""
    on_cuda = device.type == "cuda"
    value = (seed * 1_000_003 + epoch) % 2**63
    with torch.random.fork_rng([device] if on_cuda else []):
        # torch.manual_seed would seed every other device as well, which fork_rng does not put back.
        torch.default_generator.manual_seed(value)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        yield
