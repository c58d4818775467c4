"""What a training run reports after every step."""

from __future__ import annotations

from dataclasses import dataclass

from sws_compress.train.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a training run after one optimiser step.

    Parameters
    ----------
    step, total_steps : int
        Steps taken so far, and steps of the whole run.
    stage : Stage
        Stage of the next step.
    epoch, epochs : int
        Number of the epoch of this step, from 1 on, and of the last one.
    resumed : bool
        Whether this is the first epoch of a run that goes on from a saved state.
    loss : float
        Training loss of the batch, before the step.
    coded_bits : float or None
        Order-0 entropy of all assignments plus codebooks, at the last EM step; None in the soft stage.
    ratio : float or None
        32 bits per compressed weight over ``coded_bits``; None in the soft stage.
    metric : float or None
        The caller's metric of the snapped network after the last epoch of the hard stage; None until then.
    projected_bytes : int or None
        Size of the file that the present weights would make; None until the file was measured.
    bit_price : float or None
        Price of a bit in the hard stage, in units of sensitivity-weighted squared error; None in the soft stage.
    components : int or None
        Components that have members, over all groups; None in the soft stage.
    mergers : int or None
        Components that were merged into a neighbour so far, over all groups; None in the soft stage.
    """

    step: int
    total_steps: int
    stage: Stage
    epoch: int
    epochs: int
    loss: float
    resumed: bool = False
    coded_bits: float | None = None
    ratio: float | None = None
    metric: float | None = None
    projected_bytes: int | None = None
    bit_price: float | None = None
    components: int | None = None
    mergers: int | None = None

    @property
    def line(self) -> str:
        """Epoch and stage, loss, and metric and projected bytes once known, beside a bar in 80 columns."""
        parts = [
            f"epoch {self.epoch}/{self.epochs}{', resumed' if self.resumed else ''}, {self.stage.value}",
            f"loss {self.loss:.3f}",
        ]
        if self.metric is not None:
            parts.append(f"metric {self.metric:.4g}")
        if self.projected_bytes is not None:
            parts.append(f"{self.projected_bytes:,} bytes")
        return "  ".join(parts)
