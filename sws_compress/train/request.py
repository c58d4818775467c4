"""The request for fine-tuning: what a caller asks of a training run, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sws_compress.arguments import check_function, check_kind, own_numbers
from sws_compress.errors import ArgumentError, DataError, SwsError
from sws_compress.files import AnyPath
from sws_compress.messages import first_line
from sws_compress.quantize.palette import check_components
from sws_compress.thresholds import MAX_CODEBOOK
from sws_compress.train.progress import Progress
from sws_compress.train.schedule import Schedule
from sws_compress.train.sharing import Sharing

if TYPE_CHECKING:
    import torch

    from sws_compress.train.distillation import Distillation
    from sws_compress.train.select import Selection

Loss: TypeAlias = "Callable[[Any, Any], torch.Tensor]"
"""Called as ``loss(outputs, targets)``; returns a scalar tensor."""

STEPS_OF_A_RUN = 3000
"""Optimiser steps of a run whose length is not given, about. A third is too steep a way for some networks of 10,000
to 70,000 weights: at 20 times smaller they end at chance."""

LEAST_EPOCHS = 12
"""Epochs of a run whose length is not given, at least: the network is measured, and put back if it broke, once per
epoch, and ``max_drop`` finds its size in half of them."""

MOST_EPOCHS = 100
"""Epochs of a run whose length is not given, at most: a set of few batches is learnt by heart before."""

Log: TypeAlias = AnyPath | Callable[[Progress], None]
"""The log of a run: a .csv or .jsonl file, a folder for TensorBoard, or a function that gets each row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuned:
    """Request to compress a network by fine-tuning it under soft weight sharing: a torch module, or an ONNX file.

    An ONNX file learns from its own float outputs, without labels, where its operators are covered: ``train`` is then
    what `Calibrated` takes as inputs, and neither a loss nor a teacher is given. An epoch has at least 100 batches,
    mixtures of two of these inputs.

    Parameters
    ----------
    train : sized iterable
        Batches: pairs ``(inputs, targets)``, or dicts by the names of ``forward`` with the targets in ``labels``, or
        inputs alone. It is iterated once per epoch and must have a length, as a list or a ``DataLoader`` over a
        map-style dataset has.
    loss : callable, optional
        ``loss(outputs, targets)``, for example ``torch.nn.functional.cross_entropy``. Without it, a network that takes
        the labels of a dict and returns a ``loss`` learns by that, as those of transformers do, and any other from a
        teacher alone (see ``distillation``).
    components : int, default 16
        Mixture components of each group of weights, 2..256: the distinct values that its weights may take, zero among
        them.
    epochs : int, optional
        Length of the whole run, in passes over ``train``. Default: about 3,000 optimiser steps, in 12 to 100 epochs
        (``run_epochs``).
    learning_rate : float, default 7e-4
        Learning rate of Adam at the start of the run. It is lowered where the network breaks down.
    distillation : Distillation, optional
        A teacher in the loss, by default the float network itself. Default: none where there is a loss, all of it where
        there is none.
    schedule : Schedule, optional
        How the run tightens.
    parameters : callable or iterable of str, optional
        Parameters to compress: a predicate on ``(name, parameter)``, or names. Default: the weights of layers,
        and all other matrices, learned positions among them (`default_weights`). Weights that are frozen, and buffers
        that are read as weights, are clustered before training.
    sharing : Sharing, default Sharing.TENSOR
        Which of these parameters share one mixture.
    bias_components : int or None, default 254
        Distinct values at most, 2..256, for the biases, norm scales and other vectors that ``parameters`` leaves out.
        There are as few as keep the outputs on the first training batch: the error they add stays 15 dB below what the
        weights have changed. All biases share their values, and so do others of one last name (``weight``). Batch norms
        are folded into their scale and shift first. None keeps all of them in float32. The default leaves two of a
        byte's 256 values to the zeros and ones of folded batch norms.
    bfloat16 : bool, default False
        Compute under ``torch.autocast`` in bfloat16, which is faster where the processor has it. Weights and losses
        stay float32.
    bit_price : float, optional
        Price of a bit (lambda) at the end of its ramp, in units of sensitivity-weighted squared error per bit, where
        the mean of h w^2 over all weights is 1. For experts: it takes the place of a size goal, and the run ends at
        whatever size that price gives.
    state : str or path, optional
        File that the state of the run is saved to after every epoch. A run that finds its own state there goes on from
        it.
    log : str, path or callable, optional
        A .csv or .jsonl file or a folder for TensorBoard that gets loss, metric and sizes as the run goes, or a
        function that is called with each row (a `Progress`).
    frames : str or path, optional
        A .gif file that gets an animation of the weights gathering into clusters.

    Raises
    ------
    ArgumentError
        If a value is out of range.
    DataError
        If ``train`` has no length or is empty.

    Examples
    --------
    >>> batches = [([[0.0, 1.0]], [1]), ([[1.0, 0.0]], [0])]
    >>> FineTuned(train=batches, epochs=10).total_steps
    20
    """

    takes: ClassVar[frozenset[str]] = frozenset(
        (
            *("ratio", "target_bytes", "max_drop", "evaluate"),
            *("load_budget", "weight_names", "packed_embeddings"),
            *("memory", "standard_operators_only", "prune_units"),
        )
    )
    """Goals and file options that apply to this mode, by name."""

    train: Iterable[Any]
    loss: Loss | None = None
    components: int = 16
    epochs: int | None = None
    learning_rate: float = 7e-4
    distillation: Distillation | None = None
    schedule: Schedule = field(default_factory=Schedule)
    parameters: Selection | None = None
    sharing: Sharing = Sharing.TENSOR
    bias_components: int | None = 254
    bfloat16: bool = False
    bit_price: float | None = None
    state: AnyPath | None = None
    log: Log | None = None
    frames: AnyPath | None = None

    def __post_init__(self) -> None:
        own_numbers(self)
        check_function("loss", self.loss, "loss(outputs, targets)")
        check_kind("schedule", self.schedule, Schedule, "Schedule(soft_until=0.2)")
        check_kind("sharing", self.sharing, Sharing, "Sharing.MODULE")
        if self.distillation is not None:
            from sws_compress.train.distillation import Distillation

            check_kind("distillation", self.distillation, Distillation, "Distillation(weight=0.7)")
        check_components(self.components)
        if self.bias_components is not None and not 2 <= self.bias_components <= MAX_CODEBOOK:
            raise ArgumentError(
                f"bias_components must be in 2..{MAX_CODEBOOK}, got {self.bias_components}: "
                "None keeps biases and norms in float32"
            )
        if self.epochs is not None and self.epochs < 1:
            raise ArgumentError(f"epochs must be >= 1, got {self.epochs}: WeightsOnly compresses without training")
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError(f"learning_rate must be > 0, got {self.learning_rate}: 1e-4 to 1e-3 is usual for Adam")
        check_bit_price(self.bit_price)
        if self.loss is None and self.distillation is not None and self.distillation.weight != 1:
            raise ArgumentError(
                f"distillation weight must be 1 without a loss, got {self.distillation.weight}: "
                "pass loss to learn from labels as well"
            )
        batches_per_epoch(self.train)

    @property
    def run_epochs(self) -> int:
        """Epochs of the whole run: those asked for, or what comes closest to `STEPS_OF_A_RUN` steps."""
        if self.epochs is not None:
            return self.epochs
        return min(max(round(STEPS_OF_A_RUN / batches_per_epoch(self.train)), LEAST_EPOCHS), MOST_EPOCHS)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.run_epochs * batches_per_epoch(self.train)


def check_bit_price(bit_price: float | None) -> None:
    """Raise ArgumentError unless ``bit_price`` is None or a positive, finite number."""
    if bit_price is not None and not 0 < bit_price < math.inf:
        raise ArgumentError(f"bit_price must be > 0, got {bit_price}: leave it out to ask for a size")


def batches_per_epoch(train: Iterable[Any]) -> int:
    """Length of ``train``.

    Raises
    ------
    DataError
        If ``train`` has no length or is empty.
    """
    try:
        length = len(train) if isinstance(train, Sized) else None
    except TypeError:  # a torch DataLoader over an iterable dataset has __len__ but no length
        length = None
    if length is None:
        raise DataError(
            f"train must have a length, got {type(train).__name__}: "
            "pass a list of batches, or a loader over a map-style dataset"
        )
    if length == 0:
        raise no_batches()
    return length


def batches_of(train: Iterable[Any], name: str = "train") -> Iterator[Any]:
    """Batches as a loader yields them.

    Parameters
    ----------
    train : iterable
        The loader.
    name : str
        What errors call it.

    Raises
    ------
    DataError
        If the loader raises anything, also in a process of its own.
    """
    try:
        loader = iter(train)
    except Exception as error:  # whatever the caller's loader raises
        raise _not_yielded(name, error) from error
    while True:
        try:
            batch = next(loader)
        except StopIteration:
            return
        except SwsError:
            raise
        except Exception as error:
            raise _not_yielded(name, error) from error
        yield batch


def _not_yielded(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name} must yield batches, got {type(error).__name__} ({first_line(error)}): correct the data or the loader"
    )


def no_batches() -> DataError:
    """The error for a loader that yields nothing."""
    return DataError("train must yield at least one batch per epoch, got none: check the loader")
