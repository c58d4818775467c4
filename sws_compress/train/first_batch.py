"""What the first batch tells before a run: where its loss comes from, and that there will be one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from sws_compress.errors import DataError
from sws_compress.module_modes import modes_kept
from sws_compress.train.batches import signature_of, taken_apart
from sws_compress.train.distillation import Distillation
from sws_compress.train.model_calls import BatchNorm, called
from sws_compress.train.request import FineTuned
from sws_compress.train.training_loss import TrainingLoss


def own_loss(outputs: Any, targets: Any) -> torch.Tensor:
    """The loss that a model computes of its labels, as those of transformers do."""
    loss: torch.Tensor = outputs.loss
    return loss


def settled(request: FineTuned, model: nn.Module, batch: Any) -> FineTuned:
    """The request with what it learns from where it names neither loss nor teacher: the model's own loss, or a teacher.

    Parameters
    ----------
    request : FineTuned
        What the caller asked for.
    model : torch.nn.Module
        The model, in evaluation mode.
    batch : object
        The first batch.
    """
    if request.loss is not None or request.distillation is not None:
        return request
    if _computes_its_loss(model, batch):
        return replace(request, loss=own_loss)
    return replace(request, distillation=Distillation(weight=1.0))


def _computes_its_loss(model: nn.Module, batch: Any) -> bool:
    """Whether a model takes the labels of a batch and returns a loss with its outputs."""
    if not isinstance(batch, Mapping) or "labels" not in batch or "labels" not in signature_of(model).parameters:
        return False
    with torch.no_grad():
        outputs = called(model, taken_apart(batch, model, labelled=True))
    return isinstance(getattr(outputs, "loss", None), torch.Tensor)


def refuse_single_samples(train: Iterable[Any], first: Any) -> None:
    """Raise DataError if ``train`` is a data set that yields a label at a time."""
    if isinstance(train, Dataset) and isinstance(first, list | tuple) and getattr(first[-1], "ndim", 0) == 0:
        raise DataError(
            f"train must yield batches, got the data set {type(train).__name__}: wrap it, as in "
            "DataLoader(dataset, batch_size=64, shuffle=True)"
        )


def check_batches(network: nn.Module, request: FineTuned, first: Any) -> None:
    """Compute the loss of the first batch in training mode; of a last batch of one row, too, if there are batch norms.

    Parameters
    ----------
    network : torch.nn.Module
        The network; it is left as it was, and so are torch's generators.
    request : FineTuned
        What is asked for, `settled`.
    first : object
        The first batch.

    Raises
    ------
    DataError
        If a loss is not finite, and as `TrainingLoss` does.
    ArgumentError
        As `TrainingLoss` does.
    """
    device = next(network.parameters()).device
    loss = TrainingLoss(network, request, device)
    with _as_it_was(network, device):
        network.train()
        for batch in (first, *_last_row(network, request.train, first)):
            value = float(loss.of(batch).detach())
            if not math.isfinite(value):
                raise DataError(
                    f"loss must be finite before training, got {value} on the first batch: look for NaN in inputs, "
                    "targets and weights"
                )


def _last_row(network: nn.Module, train: Iterable[Any], first: Any) -> Iterator[Any]:
    """The last batch of a loader, if it has one row and the network has batch norms, which may need two."""
    if not any(isinstance(part, BatchNorm) for part in network.modules()):
        return
    if isinstance(train, Sequence):
        if _rows(train[-1]) == {1}:
            yield train[-1]
        return
    size, sampler = getattr(train, "batch_size", None), getattr(train, "sampler", None)
    if not isinstance(size, int) or size < 2 or getattr(train, "drop_last", True) or not isinstance(sampler, Sized):
        return
    if len(sampler) % size == 1 and _rows(first) == {size}:
        yield first_rows(first, 1)


def _rows(batch: Any) -> set[int]:
    """The lengths of all tensors and arrays in a batch."""
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        return set().union(*map(_rows, batch))
    return {len(batch)} if getattr(batch, "ndim", 0) else set()


def first_rows(batch: Any, rows: int) -> Any:
    """The first rows of all tensors and arrays in a batch; anything else as it is.

    Parameters
    ----------
    batch : object
        A tensor, an array, or dicts, lists and tuples of them.
    rows : int
        How many rows, at most.
    """
    if isinstance(batch, Mapping):
        return {name: first_rows(value, rows) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        kind = list if isinstance(batch, list) else tuple
        return kind(first_rows(value, rows) for value in batch)
    return batch[:rows] if getattr(batch, "ndim", 0) else batch


@contextmanager
def _as_it_was(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Put buffers, modes and torch's generators back afterwards."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    with modes_kept(network), torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, held in buffers:
                    buffer.copy_(held)
