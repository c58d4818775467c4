"""Batches for training without labels: inputs and mixtures of them, with the answers of a float network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from sws_compress.train.output_distillation import Readout, change, finite, mixed, scores

FEWEST_BATCHES = 100
"""Batches of an epoch, at least: mixtures are new every time, so that few inputs make long epochs, too."""


class TaughtBatches:
    """An epoch takes every set of inputs equally often, in random order, mixed with another in a random share.

    There are no labels: targets are the scores of the float network. Randomness is that of torch's global generator.

    Parameters
    ----------
    teacher : nn.Module
        The float network, in evaluation mode.
    inputs : sequence of tuple
        Arguments of its calls.
    readouts : sequence of Readout
        One for each tensor that it returns.
    """

    def __init__(self, teacher: nn.Module, inputs: Sequence[tuple[Any, ...]], readouts: Sequence[Readout]) -> None:
        self._teacher, self._inputs, self._readouts = teacher, inputs, readouts
        totals = [[float(finite(part).square().mean()) for part in self._told(each)] for each in inputs]
        self._energies = [sum(each) / len(inputs) for each in zip(*totals, strict=True)]

    def __len__(self) -> int:
        return len(self._inputs) * -(-FEWEST_BATCHES // len(self._inputs))

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], list[torch.Tensor]]]:
        count = len(self._inputs)
        for number in torch.randperm(len(self)).tolist():
            first, second, share = number % count, int(torch.randint(count, ())), float(torch.rand(()))
            arguments = mixed(self._inputs[first], self._inputs[second], share)
            yield arguments, self._told(arguments)

    @torch.no_grad()
    def _told(self, arguments: tuple[Any, ...]) -> list[torch.Tensor]:
        return scores(self._teacher(*arguments), self._readouts)

    def loss(self, outputs: Any, wanted: Sequence[torch.Tensor]) -> torch.Tensor:
        """Squared error of the scores relative to their energy, mean over the outputs.

        Parameters
        ----------
        outputs : object
            What the network returns.
        wanted : sequence of tensor
            The float network's scores.

        Returns
        -------
        tensor, shape ()
        """
        pairs = zip(scores(outputs, self._readouts), wanted, self._energies, strict=True)
        shares = [change(found, told).square().mean() / energy for found, told, energy in pairs if energy]
        return torch.stack(shares).mean()
