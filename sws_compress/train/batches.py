"""What a training loader yields, taken apart: inputs, targets, devices, random draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch

from sws_compress.errors import DataError


def batches_per_epoch(train: Iterable[Any]) -> int:
    """``len(train)``. Raises DataError when it has no length, or is empty."""
    try:
        length = len(train) if isinstance(train, Sized) else None
    except TypeError:  # a torch DataLoader over an iterable dataset has __len__ but no length
        length = None
    if length is None:
        raise DataError(
            f"train must have a length, got {type(train).__name__}: the schedule needs the number of batches; "
            "use a list or a loader over a map-style dataset"
        )
    if length == 0:
        raise no_batches()
    return length


def no_batches() -> DataError:
    return DataError("train must yield at least one batch per epoch, got none: check the loader")


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
