"""Soft weight sharing in ``lightning.pytorch.Trainer``."""

from __future__ import annotations

from typing import Any

import torch

from sws_compress.arguments import whole_number
from sws_compress.errors import ArgumentError
from sws_compress.integrations.settings import PriorSettings, numbers
from sws_compress.quantize.palette import Palette
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import Selection
from sws_compress.train.sharing import Sharing

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
    except ImportError as error:
        raise ImportError("lightning must be installed: pip install 'sws-compress[lightning]'") from error


class SoftWeightSharingCallback(Callback):  # type: ignore[misc]
    """Soft weight sharing over the steps of a ``lightning.pytorch.Trainer``.

    The weights are snapped when training has ended. Checkpoints hold the state of the prior, and a run that resumes
    from one goes on exactly. The settings are those of `SoftWeightSharing`.

    Parameters
    ----------
    components : int, default 16
        Mixture components of each group, 2..256.
    coded_ratio : float, default 20.0
        Size to reach: 32 bits per compressed weight over the coded bits.
    bit_price : float, optional
        Price of a bit at the end of its ramp, in place of a size.
    schedule : Schedule, optional
        How the run tightens.
    parameters : callable or iterable of str, optional
        Parameters to compress: a predicate on ``(name, parameter)``, or names.
    sharing : Sharing, default Sharing.TENSOR
        Which of these parameters share one mixture.
    submodule : str, default ""
        Name of the part that is compressed and exported; names of parameters are those inside it.
    total_steps : int, optional
        Optimiser steps of the run. Default: Lightning's estimate.
    optimizer : int, default 0
        Index in ``configure_optimizers`` of the optimiser that trains the compressed parameters.

    Examples
    --------
    ::

        callback = SoftWeightSharingCallback(components=16, coded_ratio=20, submodule="net")
        Trainer(max_epochs=20, callbacks=[callback]).fit(module, loader)
        sws.export(module.net, callback.palettes, "small.onnx", example_inputs=x)
    """

    def __init__(
        self,
        *,
        components: int = 16,
        coded_ratio: float = 20.0,
        bit_price: float | None = None,
        schedule: Schedule | None = None,
        parameters: Selection | None = None,
        sharing: Sharing = Sharing.TENSOR,
        submodule: str = "",
        total_steps: int | None = None,
        optimizer: int = 0,
    ) -> None:
        self._settings = PriorSettings(
            components=components,
            coded_ratio=coded_ratio,
            bit_price=bit_price,
            schedule=schedule,
            parameters=parameters,
            sharing=sharing,
        )
        self._total_steps = None if total_steps is None else whole_number("total_steps", total_steps)
        self._submodule, self._optimizer = submodule, whole_number("optimizer", optimizer)
        self._palettes: dict[str, Palette] | None = None
        self._saved: dict[str, Any] | None = None
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        self.prior: SoftWeightSharing | None = None

    @property
    def palettes(self) -> dict[str, Palette]:
        """Palettes of the compressed parameters, by name; ArgumentError before training has ended."""
        if self._palettes is None:
            raise ArgumentError("palettes must be asked for after training, got none so far: call trainer.fit() first")
        return self._palettes

    # -- Lightning's hooks ------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the prior: the optimisers exist from here on, and a checkpoint has been loaded."""
        self._palettes = None
        self.prior = self._settings.start(
            _part(pl_module, self._submodule),
            _optimizer(trainer, self._optimizer),
            self._total_steps or _estimated_steps(trainer),
        )
        if self._saved is not None:
            self.prior.load_state_dict(self._saved)
            self._saved = None
        # Lightning calls no callback between an optimiser's step and the scheduler's, which changes the rate that the
        # step was taken with.
        prior = self.prior
        self._hook = prior.optimizer.register_step_post_hook(lambda *_: prior.step())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the numbers of the prior."""
        if self.prior is not None:
            pl_module.log_dict(numbers(self.prior), on_step=True, on_epoch=False, batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Snap the weights."""
        self._unhook()
        if self.prior is not None:
            self._palettes = self.prior.snap()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the optimiser as it was."""
        self._unhook()

    def state_dict(self) -> dict[str, Any]:
        """State of the prior, for Lightning's checkpoints."""
        return {} if self.prior is None else self.prior.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until there is an optimiser."""
        self._saved = state_dict or None

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _part(module: LightningModule, name: str) -> torch.nn.Module:
    """The part of a module by its name; ArgumentError if there is none."""
    try:
        part: torch.nn.Module = module.get_submodule(name)
    except AttributeError as error:
        raise ArgumentError(
            f"submodule must name a part of {type(module).__name__}, got {name!r}: it has "
            f"{', '.join(name for name, _ in module.named_children()) or 'none'}"
        ) from error
    return part


def _optimizer(trainer: Trainer, index: int) -> torch.optim.Optimizer:
    """The optimiser of that index; ArgumentError if there are fewer."""
    if not 0 <= index < len(trainer.optimizers):
        raise ArgumentError(
            f"optimizer must be an index into the {len(trainer.optimizers)} of configure_optimizers, got {index}: "
            "count from 0"
        )
    optimizer: torch.optim.Optimizer = trainer.optimizers[index]
    return optimizer


def _estimated_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):
        raise ArgumentError(
            "total_steps must be given where Lightning cannot count the steps, got an endless run: "
            "set total_steps= or the trainer's max_steps"
        )
    return int(steps)
