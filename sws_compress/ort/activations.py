"""What flows through a network: activations on inputs, and what replaced weights do to the outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.analyse.bodies import values_inside
from sws_compress.onnx_io.write.probed import score_names, showing
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.session import Array, Session, SessionError, session

Feeds = Mapping[str, Array]


def activations(model: ir.Model, names: Sequence[str], feeds: Iterable[Feeds]) -> Iterator[dict[str, Array]]:
    """The values of these names, for each set of inputs in turn; inputs of the model are among them where named.

    Values of bodies are float32, stacked by those that run several times, and empty for branches that were not taken.
    They are empty as well where they cannot be stacked because their shape changes from one time to the next.
    """
    own = {str(value.name) for value in model.graph.inputs}
    known = values_inside(model)
    inner = [name for name in names if name not in own]
    steady = [name for name in inner if not known[name].stacks]
    runtime = session(to_bytes(showing(model, inner)), trusted=True) if inner else None
    fallback = None
    for given in feeds:
        found = {}
        try:
            found = {} if runtime is None else dict(zip(inner, runtime.run(given), strict=True))
        except SessionError:
            if len(steady) == len(inner):
                raise
            if fallback is None:
                fallback = session(to_bytes(showing(model, steady)), trusted=True)
            nothing = dict.fromkeys(inner, np.zeros(0, np.float32))
            found = {**nothing, **dict(zip(steady, fallback.run(given), strict=True))}
        yield {name: found[name] if name in found else np.asarray(given[name]) for name in names}
    for each in (runtime, fallback):
        if each is not None:
            each.close()


class Trials:
    """A model whose weights may be replaced for a run, and the squared relative error that this makes.

    Parameters
    ----------
    model : ir.Model
        The model.
    weights : sequence of str
        Initialisers that may be replaced.
    feeds : sequence of mapping of str to ndarray
        Inputs that it is run on.
    """

    def __init__(self, model: ir.Model, weights: Sequence[str], feeds: Sequence[Feeds]) -> None:
        self._feeds = feeds
        shown = showing(model, score_names(model), replaceable=weights)
        self._runtime: Session = session(to_bytes(shown), trusted=True)
        self._expected = [self._runtime.run(given) for given in feeds]

    def error(self, weights: Mapping[str, Array], *, most_feeds: int | None = None) -> float:
        """Mean over the outputs of |change|^2 / |output|^2, see `OutputErrors`; on all inputs or the first so many."""
        errors = OutputErrors(len(self._runtime.outputs))
        for given, expected in zip(self._feeds[:most_feeds], self._expected[:most_feeds], strict=True):
            for number, pair in enumerate(zip(expected, self._runtime.run({**given, **weights}), strict=True)):
                errors.add(number, *pair)
        return errors.mean


class OutputErrors:
    """Errors of the outputs of a changed model, added up over runs.

    Parameters
    ----------
    count : int
        Number of outputs.
    """

    def __init__(self, count: int) -> None:
        self.changes, self.energies = np.zeros(count), np.zeros(count)

    def add(self, number: int, expected: Array, found: Array) -> None:
        """Add what a run made of an output; another shape or an infinite value counts as an error of its energy.

        Where the output is not finite as it is, nothing is compared.
        """
        finite = np.isfinite(expected)
        energy = _energy(expected[finite])
        self.energies[number] += energy
        same = found.shape == expected.shape
        self.changes[number] += min(_energy(found[finite] - expected[finite]), energy) if same else energy

    @property
    def mean(self) -> float:
        """Mean over the outputs of |change|^2 / |output|^2."""
        told = self.energies > 0
        return float((self.changes[told] / self.energies[told]).mean()) if told.any() else 0.0


def _energy(values: Array) -> float:
    """Sum of squares; infinite if a value is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(np.square(values, dtype=np.float64).sum())
    return total if np.isfinite(total) else np.inf
