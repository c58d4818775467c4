"""What a training loader yields, taken apart: inputs, targets, devices, random draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sws_compress.errors import DataError


def inputs_and_targets(batch: Any, *, labelled: bool) -> tuple[tuple[Any, ...], Any]:
    """((inputs...), targets) of a pair; unlabelled, the first item of a list or tuple, or the batch, is the inputs.

    Raises DataError when a labelled batch is not a pair.
    """
    if not labelled:
        inputs, targets = (batch[0] if isinstance(batch, list | tuple) else batch), None
    elif isinstance(batch, list | tuple) and len(batch) == 2:
        inputs, targets = batch
    else:
        raise DataError(
            f"train must yield (inputs, targets) pairs, got {type(batch).__name__}: leave loss out for unlabelled data"
        )
    return (tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)), targets


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, also inside lists and tuples, on ``device``; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return tuple(moved(item, device) for item in value)
    return value


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """The global generators of the CPU and of ``device`` seeded for this epoch, and put back afterwards."""
    on_cuda = device.type == "cuda"
    value = (seed * 1_000_003 + epoch) % 2**63
    with torch.random.fork_rng([device] if on_cuda else []):
        # torch.manual_seed would seed every other device as well, which fork_rng does not put back.
        torch.default_generator.manual_seed(value)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        yield
