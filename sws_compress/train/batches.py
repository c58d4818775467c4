"""Batches of a training loader: inputs and targets, devices, and the random draws of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from sws_compress.errors import DataError


def inputs_and_targets(batch: Any, *, labelled: bool) -> tuple[tuple[Any, ...], Any]:
    """Take a batch apart.

    Parameters
    ----------
    batch : object
        A pair (inputs, targets); without labels, a list or tuple that begins with the inputs, or the inputs alone.
    labelled : bool
        Whether targets are needed.

    Returns
    -------
    inputs : tuple
        Positional arguments of the model.
    targets : object
        None without labels.

    Raises
    ------
    DataError
        If a labelled batch is not a pair.
    """
    if not labelled:
        inputs, targets = (batch[0] if isinstance(batch, list | tuple) else batch), None
    elif isinstance(batch, list | tuple) and len(batch) == 2:
        inputs, targets = batch
    else:
        raise DataError(f"train must yield (inputs, targets) pairs, got {_cure(batch)}")
    return (tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)), targets


def _cure(batch: Any) -> str:
    """What a loader yields instead of a pair, and what to do."""
    if isinstance(batch, Mapping):
        names = ", ".join(map(str, batch))
        return f"a dict of {names}: yield (batch[inputs], batch[targets]), inputs as a tuple if several"
    return f"{type(batch).__name__}: leave loss out for unlabelled data"


def moved(value: Any, device: torch.device) -> Any:
    """Copy of ``value`` with all tensors on ``device``, also those in lists and tuples; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return tuple(moved(item, device) for item in value)
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
