"""The loss that a run descends: the caller's, a teacher's, or both; what is none is refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError, DataError, SwsError
from sws_compress.messages import first_line
from sws_compress.train.batches import Batch, taken_apart
from sws_compress.train.distillation import distillation_loss, frozen_copy
from sws_compress.train.model_calls import called, kind, out_of_memory, type_name
from sws_compress.train.request import FineTuned, Loss


class TrainingLoss:
    """Loss of a network on a batch.

    Parameters
    ----------
    model : torch.nn.Module
        The network that is trained; by default it is copied as its own teacher.
    request : FineTuned
        ``loss``, ``distillation`` and ``bfloat16`` are used.
    device : torch.device
        Device of the network.

    Attributes
    ----------
    teacher : torch.nn.Module or None
        The frozen teacher.
    """

    def __init__(self, model: nn.Module, request: FineTuned, device: torch.device) -> None:
        self._model, self._request, self.device = model, request, device
        distillation = request.distillation
        self.teacher = frozen_copy(distillation.teacher or model, device) if distillation else None

    def precision(self) -> torch.autocast:
        """The context in which the network computes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._request.bfloat16)

    def of(self, batch: Any) -> torch.Tensor:
        """Loss of the network as it is, shape ().

        Parameters
        ----------
        batch : object
            A batch as the loader yields it.

        Raises
        ------
        DataError
            If the model does not take the batch, or the loss its targets.
        ArgumentError
            If the loss is not one number with gradients, or if outputs cannot be distilled.
        """
        apart = taken_apart(batch, self._model, labelled=self._request.loss is not None)
        return self._of_outputs(self._outputs(self._model, apart), apart)

    @torch.no_grad()
    def of_constant(self, batch: Any) -> tuple[float, float | None]:
        """Loss of the network, and what it would be if all rows of the batch had the same outputs, their mean.

        The second is None where outputs are not one tensor of floats with two rows or more.
        """
        apart = taken_apart(batch, self._model, labelled=self._request.loss is not None)
        outputs = self._outputs(self._model, apart)
        outputs = scores(outputs) if self._request.loss is None else outputs
        found = float(self._of_outputs(outputs, apart))
        if not (isinstance(outputs, torch.Tensor) and outputs.is_floating_point() and outputs.dim()):
            return found, None
        if len(outputs) < 2:
            return found, None
        return found, float(self._of_outputs(outputs.mean(0, keepdim=True).expand_as(outputs), apart))

    def _outputs(self, model: nn.Module, batch: Batch) -> Any:
        with self.precision():
            return _float32(called(model, batch))

    def _of_outputs(self, outputs: Any, batch: Batch) -> torch.Tensor:
        parts = []
        loss, distillation = self._request.loss, self._request.distillation
        share = distillation.weight if distillation else 0.0
        if loss is not None and share < 1:
            parts.append((1 - share) * _loss_of(loss, outputs, batch.targets))
        if distillation and self.teacher is not None:
            with torch.no_grad():
                wanted = self._outputs(self.teacher, batch)
            parts.append(share * distillation_loss(scores(outputs), scores(wanted), distillation.temperature))
        return torch.stack(parts).sum()


def backward(loss: torch.Tensor) -> None:
    """Add gradients to those of the parameters. Raises ArgumentError if the loss has none."""
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever an operator of the model or of the loss raises
        raise out_of_memory(error) or ArgumentError(
            f"loss must have gradients, got {type(error).__name__} ({first_line(error)}): compute it of the outputs "
            "by differentiable operators, and keep nothing of the batch before"
        ) from error


def scores(outputs: Any) -> Any:
    """What is distilled: the logits of a model that returns them with a name, else the outputs."""
    return getattr(outputs, "logits", outputs)


def _loss_of(loss: Loss, outputs: Any, targets: Any) -> torch.Tensor:
    """The caller's loss, checked."""
    try:
        value: object = loss(outputs, targets)
    except SwsError:
        raise
    except Exception as error:  # whatever the loss raises
        raise out_of_memory(error) or DataError(
            f"loss must take the outputs of the model and the targets, got {kind(outputs)} and {kind(targets)} "
            f"({type(error).__name__}: {first_line(error)}): {_loss_cure(outputs, targets)}"
        ) from error
    if not isinstance(value, torch.Tensor):
        raise ArgumentError(f"loss must return a tensor, got {kind(value)}: return it as it is, without .item()")
    if value.numel() != 1:
        raise ArgumentError(
            f"loss must return one number, got {kind(value)}: average it, for example with reduction='mean'"
        )
    if not value.requires_grad and torch.is_grad_enabled():
        raise ArgumentError(
            "loss must have gradients, got a tensor without: compute it of the outputs, and neither detach them nor "
            "go through NumPy, argmax or torch.no_grad()"
        )
    return value.reshape(())


def _loss_cure(outputs: Any, targets: Any) -> str:
    """What to do about outputs and targets that a loss does not take; the usual reasons first."""
    if not isinstance(outputs, torch.Tensor):
        field = "outputs.logits" if hasattr(outputs, "logits") else "outputs[0]"
        return f"take the tensor out of the outputs, as in loss=lambda outputs, targets: your_loss({field}, targets)"
    if isinstance(targets, torch.Tensor):
        if targets.is_floating_point() and targets.dim() < outputs.dim():
            return "classes must be int64, so cast them with targets.long()"
        if not targets.is_floating_point() and targets.shape == outputs.shape:
            return f"cast the targets to {type_name(outputs.dtype)}"
    return "yield targets of the type and shape that it takes"


def _float32(outputs: Any) -> Any:
    """Outputs in float32, for the loss; autocast leaves them in half precision."""
    return outputs.float() if isinstance(outputs, torch.Tensor) and outputs.is_floating_point() else outputs
