"""Soft weight sharing in ``transformers.Trainer``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from sws_compress.errors import ArgumentError
from sws_compress.integrations.settings import PriorSettings, numbers
from sws_compress.quantize.palette import Palette
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.saved_state import read_state, refusing_others, write_state
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import Selection
from sws_compress.train.sharing import Sharing

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("transformers must be installed: pip install 'sws-compress[transformers]'") from error

STATE_FILE = "soft_weight_sharing.pt"
"""Name of the file with the prior's state in each of the trainer's checkpoints."""


class SoftWeightSharingCallback(TrainerCallback):  # type: ignore[misc]
    """Soft weight sharing over the steps of a ``transformers.Trainer``.

    The weights are snapped when training has ended. Every checkpoint holds the state of the prior, and a run that
    resumes goes on exactly. `add_to` puts the callback before those that write the log. The settings are those of
    `SoftWeightSharing`.

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
    resume_from : str or path, optional
        Checkpoint that was given to ``train(resume_from_checkpoint=...)``, if it is not the trainer's own folder for
        the step: callbacks are not told.

    Examples
    --------
    ::

        callback = SoftWeightSharingCallback(components=16, coded_ratio=20)
        Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
        sws.export(model, callback.palettes, "small.onnx", example_inputs=(ids,))
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
        resume_from: str | os.PathLike[str] | None = None,
    ) -> None:
        self._settings = PriorSettings(
            components=components,
            coded_ratio=coded_ratio,
            bit_price=bit_price,
            schedule=schedule,
            parameters=parameters,
            sharing=sharing,
        )
        self._resume_from = resume_from
        self._palettes: dict[str, Palette] | None = None
        self.prior: SoftWeightSharing | None = None

    @property
    def palettes(self) -> dict[str, Palette]:
        """Palettes of the compressed parameters, by name; ArgumentError before training has ended."""
        if self._palettes is None:
            raise ArgumentError(
                "palettes must be asked for after training, got none so far: call trainer.train() first"
            )
        return self._palettes

    def add_to(self, trainer: Trainer) -> None:
        """Add the callback to a trainer, before all others; it takes the place of ``callbacks=[callback]``.

        A log passes through the callbacks in order, and TensorBoard and its like come before those given to the
        trainer.
        """
        trainer.callback_handler.callbacks.insert(0, self)

    # -- the trainer's events ---------------------------------------------------------------------------------------

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        **others: Any,
    ) -> None:
        """Make the prior: the optimiser exists from here on, and a checkpoint has been loaded."""
        if args.load_best_model_at_end:
            raise ArgumentError(
                "load_best_model_at_end must be False with soft weight sharing, got True: the best checkpoint is one "
                "from before the weights were shared; evaluate the final model instead"
            )
        self._palettes = None
        self.prior = self._settings.start(model, optimizer, state.max_steps)
        if state.global_step > 0:
            folder = self._resume_from or args.resume_from_checkpoint or _folder(args, state)
            _resume(self.prior, Path(folder), state.global_step)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Step the prior."""
        if self.prior is not None:
            self.prior.step()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Add the numbers of the prior to the log of training steps, and to ``state.log_history``."""
        if self.prior is not None and logs is not None and "loss" in logs:
            values = numbers(self.prior)
            logs.update(values)
            state.log_history[-1].update(values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        """Write the state of the prior into the trainer's checkpoint."""
        if self.prior is None or args.save_only_model:
            return
        prior = self.prior.state_dict()  # by all ranks: sharded, it is gathered
        if not state.is_world_process_zero:
            return
        write_state(_folder(args, state) / STATE_FILE, {"global_step": state.global_step, "prior": prior})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Snap the weights."""
        if self.prior is not None:
            self._palettes = self.prior.snap()


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Folder of the trainer's checkpoint of the present step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _resume(prior: SoftWeightSharing, folder: Path, step: int) -> None:
    """Load the state of the prior in a checkpoint; ArgumentError if there is none, or one of another step."""
    path = folder / STATE_FILE
    if not path.exists():
        raise ArgumentError(
            f"{path} must exist to go on from step {step}, got no such file: name the checkpoint in resume_from=, or "
            "load the model from it and train without resume_from_checkpoint to start anew"
        )
    with refusing_others(path, "a state that this run saved"):
        saved = read_state(path)
        if saved["global_step"] != step:
            raise ArgumentError(
                f"it must be of step {step}, got step {saved['global_step']}: name the same checkpoint in resume_from= "
                "as in resume_from_checkpoint="
            )
        prior.load_state_dict(saved["prior"])
