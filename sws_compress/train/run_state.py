"""The state of a run: what its epochs depend on, kept in memory to go back to, and in a file to go on from."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sws_compress.files import write_atomically
from sws_compress.train.collapse import Collapse
from sws_compress.train.finite import START_AGAIN
from sws_compress.train.identity import at_any_rate, refuse_other_run
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.saved_state import (
    check_number,
    check_optimizer,
    check_state_dict,
    packed_state,
    read_state,
    refusing_others,
)
from sws_compress.train.steering import Steering


class RunState:
    """The objects of a run that change as it goes, and the files that their state goes to.

    Parameters
    ----------
    model : torch.nn.Module
        The network that is trained.
    teacher : torch.nn.Module or None
        Its teacher.
    prior : SoftWeightSharing
        The mixtures and the snapped weights.
    steering : Steering
        The way to the size.
    collapse : Collapse
        The levels of the loss.
    identity : dict
        What tells the run from others.
    path : Path or None
        The file that the state goes to after every epoch.
    rescue_path : Path or None
        The file that the last good state goes to if the run breaks down.

    Attributes
    ----------
    rate_share : float
        Learning rate as a share of the one that was asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | None,
        prior: SoftWeightSharing,
        steering: Steering,
        collapse: Collapse,
        *,
        identity: dict[str, Any],
        path: Path | None,
        rescue_path: Path | None,
    ) -> None:
        self._model, self._teacher, self._prior = model, teacher, prior
        self._steering, self._collapse = steering, collapse
        self._identity, self.path, self._rescue_path = identity, path, rescue_path
        self.rate_share = 1.0

    def packed(self, epoch: int) -> bytes:
        """Everything that the epochs from ``epoch`` on depend on."""
        state = {
            "run": self._identity,
            "epoch": epoch,
            "prior": self._prior.state_dict(),
            "model": self._model.state_dict(),
            "teacher": None if self._teacher is None else self._teacher.state_dict(),
            "optimizer": self._prior.optimizer.state_dict(),
            "steering": self._steering.state_dict(),
            "collapse": self._collapse.state_dict(),
            "rate_share": self.rate_share,
        }
        return packed_state(state)

    def save(self, packed: bytes) -> None:
        """Write a state, if there is a file for it."""
        if self.path is not None:
            write_atomically(self.path, packed)

    def rescue(self, packed: bytes) -> str:
        """Write a state that may go on with another learning rate; what to do then."""
        if self._rescue_path is None:
            return START_AGAIN
        saved = _unpacked(packed)
        write_atomically(self._rescue_path, packed_state({**saved, "run": at_any_rate(saved["run"])}))
        return f"lower learning_rate and go on from the last good state, saved in {self._rescue_path}"

    def resume(self) -> int | None:
        """Restore the state in the file; the epoch to go on from, or None if there is no file.

        Raises
        ------
        ArgumentError
            If it is no state of this run.
        """
        if self.path is None or not os.path.exists(self.path):
            return None
        with refusing_others(self.path, "a state that this run saved"):
            saved = read_state(self.path)
            refuse_other_run(saved["run"], self._identity)
            self._check(saved)
            self._restore(saved)
            if self._teacher is not None:
                self._teacher.load_state_dict(saved["teacher"])
            self._steering.load_state_dict(saved["steering"])
            self._collapse.load_state_dict(saved["collapse"])
            self.rate_share = saved["rate_share"]
            epoch: int = saved["epoch"]
        return epoch

    def go_back(self, packed: bytes) -> None:
        """Put network, prior and optimiser back to a state, at the step where the run is."""
        saved = _unpacked(packed)
        saved["prior"]["alternation"]["steps"] = self._prior.steps
        self._restore(saved)

    def _restore(self, saved: dict[str, Any]) -> None:
        self._prior.load_state_dict(saved["prior"])  # first, because it refuses the state of another run, too
        self._model.load_state_dict(saved["model"])
        self._prior.optimizer.load_state_dict(saved["optimizer"])

    def _check(self, saved: dict[str, Any]) -> None:
        """Raise an error unless all parts of a state but the prior's, which checks its own, fit this run."""
        check_number("epoch", saved["epoch"], whole=True, least=0)
        check_state_dict("network", saved["model"], self._model.state_dict())
        if self._teacher is not None:
            check_state_dict("teacher", saved["teacher"], self._teacher.state_dict())
        check_optimizer(saved["optimizer"], self._prior.optimizer)
        self._steering.check_saved(saved["steering"])
        self._collapse.check_saved(saved["collapse"])
        check_number("share of the learning rate", saved["rate_share"], least=0)


def _unpacked(packed: bytes) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    return saved
