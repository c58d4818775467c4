"""The table of decisions, from what was assigned and what the file turned out to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sws_compress.onnx_io.analyse.weights import Weight
from sws_compress.report.decisions import Decision, kind_of
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import DENSE

BY_VALUES = "its values"
"""What decides where no inputs are seen."""


@dataclass(frozen=True)
class Reason:
    """What is known of a decision when a weight is assigned.

    Parameters
    ----------
    how : str
        What it was decided by.
    step, level : float, optional
        As in `Decision`.
    error : float, optional
        Predicted squared relative error of the outputs.
    """

    how: str = BY_VALUES
    step: float | None = None
    level: float | None = None
    error: float | None = None


def decisions(
    weights: Sequence[Weight], rows: Sequence[TensorRow], reasons: Mapping[str, Reason]
) -> tuple[Decision, ...]:
    """A row for every weight, in the order of the graph.

    Parameters
    ----------
    weights : sequence of Weight
        The weights of the model.
    rows : sequence of TensorRow
        What the file holds of them; the others have been pruned.
    reasons : mapping of str to Reason
        What decided; `BY_VALUES` for all others.
    """
    stored = {row.name: row for row in rows}
    total = sum(reason.error or 0.0 for reason in reasons.values())
    found = []
    for weight in weights:
        row, reason = stored.get(weight.name), reasons.get(weight.name, Reason())
        found.append(
            Decision(
                name=weight.name,
                kind=kind_of(weight.operators),
                weights=weight.size,
                file_bytes=0 if row is None else row.file_bytes,
                entries=0 if row is None or row.encoding == DENSE else row.distinct_values,
                how=reason.how,
                step=reason.step,
                level=reason.level,
                error_share=None if reason.error is None else reason.error / total if total else 0.0,
            )
        )
    return tuple(found)
