"""Outputs that rounding changes by more than rounding, because the network chooses by numbers that are nearly equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from sws_compress.errors import VerificationError
from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.choices import first_choices
from sws_compress.onnx_io.write.probed import showing
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import differences_from_original, outputs_in_runtime
from sws_compress.ort.session import Array


def moved_choices(
    model: ir.Model,
    values: Mapping[str, Array],
    written: Callable[[ir.Model], bytes],
    feeds: Mapping[str, Array],
    outputs: tuple[Sequence[Array], Sequence[Array]],
    tolerance: float,
) -> str | None:
    """Whether two networks differ only in what they choose, such as the place of the larger of two equal numbers.

    They do if all outputs before a choice agree, and the numbers that are chosen by agree as well. These are
    computed by both networks again, as further outputs.

    Parameters
    ----------
    model : ir.Model
        The dense network.
    values : mapping of str to ndarray
        What the reference holds in its initialisers.
    written : callable
        Writes a model like ``model`` as the other network was written.
    feeds : mapping of str to ndarray
        Inputs by name.
    outputs : (sequence of ndarray, sequence of ndarray)
        What the two answered to them.
    tolerance : float
        Largest `OutputDifference.largest_relative` that agrees.

    Returns
    -------
    str or None
        A note for the result; None if something else explains the difference.
    """
    choices = first_choices(model)
    names = [str(output.name) for output in model.graph.outputs]
    far = {each.name for each in differences_from_original(names, *outputs) if each.largest_relative > tolerance}
    if not choices.chosen_by or not far <= choices.dependent:
        return None
    probe = showing(model, (*names, *choices.chosen_by))
    try:
        reference, candidate = (
            outputs_in_runtime(data, feeds)[len(names) :]
            for data in (to_bytes(with_values(probe, values)), written(probe))
        )
    except VerificationError:
        return None
    before = differences_from_original(choices.chosen_by, reference, candidate)
    if any(each.largest_relative > tolerance for each in before):
        return None
    return (
        f"{', '.join(choices.operators)} chooses between numbers so close that rounding decides: they agree within "
        f"{tolerance:g}, {first_few(sorted(map(shown, far)), ', ')} behind them do not; judge by your own metric"
    )
