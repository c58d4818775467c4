"""Calls of the caller's model with a batch, and one line about what it does not take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sws_compress.errors import DataError, SwsError, TrainingError
from sws_compress.messages import first_line
from sws_compress.train.batches import Batch, signature_of

YIELD = "yield tensors, several as a tuple, before the targets"
"""What to do about batches that a module does not take."""

BatchNorm = nn.modules.batchnorm._BatchNorm


def called(model: nn.Module, batch: Batch, source: str = "inputs of train", cure: str = YIELD) -> Any:
    """What a model returns for a batch.

    Parameters
    ----------
    model : torch.nn.Module
        The model, in any mode.
    batch : Batch
        The batch.
    source, cure : str
        Where its inputs come from, and what to do about them, for messages.

    Raises
    ------
    DataError
        If the model raises anything.
    TrainingError
        If memory runs out.
    """
    try:
        return model(*batch.arguments, **batch.keywords)
    except SwsError:
        raise
    except Exception as error:  # whatever the model raises
        raise out_of_memory(error) or DataError(
            f"{source} must be arguments that {type(model).__name__} takes, got {kinds(batch)} "
            f"({type(error).__name__}: {first_line(error)}): {_cure(model, batch, cure)}"
        ) from error


def _cure(model: nn.Module, batch: Batch, cure: str) -> str:
    """What to do about inputs that a model does not take; the usual reasons first."""
    held = [value for value in (*batch.arguments, *batch.keywords.values()) if isinstance(value, torch.Tensor)]
    if (
        model.training
        and held
        and held[0].dim()
        and len(held[0]) == 1
        and any(isinstance(part, BatchNorm) for part in model.modules())
    ):
        return "batch norms need two rows or more: drop the last batch, as a DataLoader does with drop_last=True"
    dtype = next((each.dtype for each in model.parameters() if each.is_floating_point()), None)
    if any(value.is_floating_point() and value.dtype != dtype for value in held):
        return f"its weights are {type_name(dtype)}: cast the inputs to that"
    named = bool(batch.keywords) or any(isinstance(value, dict) for value in batch.arguments)
    return f"{cure}; forward takes {', '.join(signature_of(model).parameters) or 'nothing'}" if named else cure


def out_of_memory(error: Exception) -> TrainingError | None:
    """The error to raise if memory ran out."""
    if not isinstance(error, torch.OutOfMemoryError | MemoryError):
        return None
    return TrainingError(
        f"memory must hold a batch with its gradients, got '{first_line(error)}': take smaller batches"
    )


# -- words for messages -----------------------------------------------------------------------------------------------


def type_name(dtype: torch.dtype | None) -> str:
    """The name of a type, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def kind(value: Any) -> str:
    """What a value is, in short."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {type_name(value.dtype)} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(str, list(value)[:4]))}"
    return type(value).__name__


def kinds(batch: Batch) -> str:
    """What a model was called with, in short."""
    named = [f"{name}={kind(value)}" for name, value in list(batch.keywords.items())[:4]]
    return ", ".join([*map(kind, batch.arguments[:4]), *named]) or "none"
