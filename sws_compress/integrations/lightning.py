"""Soft weight sharing in ``lightning.pytorch.Trainer``."""

from __future__ import annotations

from typing import Any

import torch

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
    """Soft stage, hard stage and codebook tuning over the steps of a ``Trainer``; snaps when training has ended.

        callback = SoftWeightSharingCallback(components=16, ratio=20, submodule="net")
        Trainer(max_epochs=20, callbacks=[callback]).fit(module, loader)
        sws.export(module.net, callback.palettes, "small.onnx", example_inputs=x)

    components, ratio, bit_price, schedule, parameters, sharing    as of ``SoftWeightSharing``
    submodule       name of the part that is compressed and exported; names of parameters are those in it
    total_steps     optimiser steps of the run; by default Lightning's estimate of them
    optimizer       index in ``configure_optimizers``, of the one that trains the compressed parameters

    Checkpoints hold the prior's state, and a run that resumes from one goes on exactly.
    """

    def __init__(
        self,
        *,
        components: int = 16,
        ratio: float = 20.0,
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
            ratio=ratio,
            bit_price=bit_price,
            schedule=schedule,
            parameters=parameters,
            sharing=sharing,
        )
        self._submodule, self._total_steps, self._optimizer = submodule, total_steps, optimizer
        self._palettes: dict[str, Palette] | None = None
        self._saved: dict[str, Any] | None = None
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        self.prior: SoftWeightSharing | None = None

    @property
    def palettes(self) -> dict[str, Palette]:
        """What the compressed parameters hold, by name. Raises ArgumentError before training has ended."""
        if self._palettes is None:
            raise ArgumentError("palettes must be asked for after training, got none so far: call trainer.fit() first")
        return self._palettes

    # -- Lightning's hooks ------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the prior: the optimisers exist from here on, and a checkpoint has been loaded."""
        self._palettes = None
        self.prior = self._settings.start(
            pl_module.get_submodule(self._submodule),
            trainer.optimizers[self._optimizer],
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
        if self.prior is not None:
            pl_module.log_dict(numbers(self.prior), on_step=True, on_epoch=False, batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unhook()
        if self.prior is not None:
            self._palettes = self.prior.snap()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._unhook()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.prior is None else self.prior.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until there is an optimiser."""
        self._saved = state_dict or None

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _estimated_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):
        raise ArgumentError(
            "total_steps must be given where Lightning cannot count the steps, got an endless run: "
            "set total_steps= or the trainer's max_steps"
        )
    return int(steps)
