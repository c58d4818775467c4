"""What a caller measures of a network while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sws_compress.metric_sense import Sense


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Measures of the network as it is.

    Parameters
    ----------
    file_bytes : callable, optional
        Bytes that the file of the network would have; called about twenty times, from the hard stage on.
    least_bytes : int, default 0
        Bytes of the smallest file of the network, whose compressed weights are all zero. The first sizes to aim for are
        guessed by it, and too large without.
    validate : callable, optional
        The caller's metric; called after every epoch from the hard stage on.
    validate_file : callable, optional
        The same of the network as its file will hold it, with what is rounded besides the weights. With ``metric_drop``
        it is called in the last third of the epochs in place of ``validate``, and about seven times each
        when assignments are frozen and at the end. Default: ``validate``.
    validate_float : callable, optional
        The same of the float network, untouched: what ``metric_drop`` counts from. It is called at the start. Default:
        ``validate``.
    sense : Sense, default Sense.MAX
        Whether more or less of the metric is better.
    """

    file_bytes: Callable[[], int] | None = None
    least_bytes: int = 0
    validate: Callable[[], float] | None = None
    validate_file: Callable[[], float] | None = None
    validate_float: Callable[[], float] | None = None
    sense: Sense = Sense.MAX


def with_norms_settled(measures: Measures, quickly: Callable[[], None], fully: Callable[[], None]) -> Measures:
    """The measures with statistics of batch norms that are those of the weights now: running averages lag behind.

    Parameters
    ----------
    measures : Measures
        What is measured.
    quickly, fully : callable
        Take the statistics anew, over a few batches and as the network would end with.
    """
    if measures.validate is None:
        return measures
    validate_file = _after(fully, measures.validate_file or measures.validate)
    return replace(
        measures,
        validate=_after(quickly, measures.validate),
        validate_file=validate_file,
        validate_float=measures.validate_float or measures.validate,
    )


def _after(settle: Callable[[], None], validate: Callable[[], float]) -> Callable[[], float]:
    def measured() -> float:
        settle()
        return validate()

    return measured
