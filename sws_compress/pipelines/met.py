"""What weights meet: samples of their inputs, as they were and as they have become, added up to moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.drift import Drift
from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.moments import InputMoment, by_groups
from sws_compress.onnx_io.analyse.products import Product
from sws_compress.ort.activations import Feeds, activations
from sws_compress.ort.session import Array
from sws_compress.pipelines.places import Place

SAMPLES_PER_FEED = 400
"""Inputs of a layer that are taken from each set of inputs of the network: neighbours in an image or a text tell
little more than one of them."""

PART_SAMPLES = 512
"""Samples that are added to a moment at a time, at least, as the whole matrix is read and written for each part. Of d
inputs they are d / 4: as many bytes as a quarter of the matrix."""


@dataclass(frozen=True, eq=False)
class Meeting:
    """Weights that multiply the same values, and their products with them; none for a weight whose are not known."""

    names: tuple[str, ...]
    products: tuple[Product, ...]


def meetings(
    places: Mapping[str, Place], names: Iterable[str], is_there: Callable[[str], bool] = lambda value: True
) -> list[Meeting]:
    """Weights by what they meet.

    Parameters
    ----------
    places : mapping of str to Place
        Weights, by name.
    names : iterable of str
        Those that are wanted.
    is_there : callable, optional
        Whether a value is known: products with others are left out.
    """
    found: dict[tuple[object, ...], tuple[list[str], tuple[Product, ...]]] = {}
    for name in names:
        products = tuple(each for each in places[name].products if is_there(each.value))
        key = tuple((each.value, each.layout, each.stacks) for each in products) or (name,)
        found.setdefault(key, ([], products))[0].append(name)
    return [Meeting(tuple(together), products) for together, products in found.values()]


def multiplied(together: Iterable[Meeting]) -> list[str]:
    """Names of the values that some weights multiply."""
    return sorted({product.value for meeting in together for product in meeting.products})


def samples(products: Sequence[Product], found: Mapping[str, Array], seed: Sequence[int]) -> list[Array | None]:
    """What weights of these products multiply, among values of one run: some of it, at places that the seed decides.

    None where a branch was not taken, or a body did not run.
    """
    return [_samples_of(product, found[product.value], np.random.default_rng(seed)) for product in products]


def _samples_of(product: Product, found: Array, random: np.random.Generator) -> Array | None:
    """Some of what a product multiplies, at all times that its body ran; None if that was never."""
    if not found.size:
        return None
    times = found.reshape(-1, *found.shape[product.stacks :]) if product.stacks else (found,)
    most = max(SAMPLES_PER_FEED // len(times), 1)
    return np.concatenate([product.layout.inputs(each, most, random) for each in times])


class Met:
    """What some weights meet: the moment of their inputs, and how these have drifted."""

    def __init__(self) -> None:
        self._moment: InputMoment | None = None
        self._drift: Drift | None = None
        self._part: list[tuple[Array | None, Array]] = []
        self._held_out: list[tuple[Array, Array]] = []
        self._like: Layer | None = None

    def add(
        self,
        now: Sequence[Array | None],
        before: Sequence[Array | None] | None = None,
        *,
        fitted: bool = True,
        held_out: bool = False,
    ) -> None:
        """Add samples of a run.

        Parameters
        ----------
        now : sequence of ndarray, shape (n, groups, d), or None
            Inputs as they are, of every product.
        before : sequence of ndarray, shape (n, groups, d), or None, optional
            The same as they were; left out if they are the same.
        fitted, held_out : bool
            Whether the moments are made of them, and whether `layer` tries on them if weights shall follow.
        """
        for new, old in zip(now, before or (None,) * len(now), strict=True):
            if new is None or (old is not None and old.shape != new.shape):
                new, old = old, None  # another branch, or more or fewer times: what was met before counts
            if new is None:
                continue
            if held_out and old is not None:
                self._held_out.append((old, new))
            if fitted:
                self._fit(new, old)

    def _fit(self, now: Array, before: Array | None) -> None:
        if self._part and (before is None) != (self._part[0][0] is None):
            self._sum_up()
        self._part.append((before, now))
        if sum(len(each) for _, each in self._part) >= max(PART_SAMPLES, now.shape[2] // 4):
            self._sum_up()

    def _sum_up(self) -> None:
        if not self._part:
            return
        now = np.concatenate([each for _, each in self._part])
        before = [each for each, _ in self._part if each is not None]
        self._part = []
        self._moment = InputMoment.of(now) if self._moment is None else self._moment.include(now)
        if before:
            pair = np.concatenate(before), now
            self._drift = Drift.of(*pair) if self._drift is None else self._drift.include(*pair)

    @property
    def moment(self) -> InputMoment | None:
        """The moment of the inputs as they are; None if there were none."""
        self._sum_up()
        return self._moment

    def layer(self, place: Place) -> Layer:
        """The layer of a weight that meets them. It follows its inputs, unless that is worse on those held out."""
        moment = self.moment
        self._like = layer = place.layer(moment, self._drift, self._like)
        if self._drift is None or not self._held_out:
            return layer
        staying = layer.with_rows(place.layout.rows(place.weight.values).astype(layer.rows.dtype))
        return layer if self._is_closer(layer, staying) else staying

    def _is_closer(self, layer: Layer, staying: Layer) -> bool:
        """Whether a layer has a smaller error of its outputs than its weights as they were, on inputs as they are."""
        errors = np.zeros(2)
        for before, now in self._held_out:
            old, new = by_groups(before), by_groups(now)
            if layer.means is not None:
                old -= layer.means.before[:, None].astype(old.dtype)
                new -= layer.means.now[:, None].astype(new.dtype)
            wanted = old @ np.swapaxes(staying.rows, 1, 2)
            for number, each in enumerate((layer, staying)):
                error = new @ np.swapaxes(each.rows, 1, 2) - wanted
                errors[number] += np.square(error, dtype=np.float64).sum()
        return bool(errors[0] < errors[1])


def add_run(
    met: Sequence[Met],
    together: Sequence[Meeting],
    seed: tuple[int, int],
    *seen: Mapping[str, Array],
    fitted: bool = True,
    held_out: bool = False,
) -> None:
    """Add samples of one run to what weights meet.

    Parameters
    ----------
    met : sequence of Met
        Of each meeting.
    together : sequence of Meeting
        The weights.
    seed : (int, int)
        Seed of the positions that are taken, and the number of the set of inputs.
    *seen : mapping of str to ndarray
        Values of the network as it is; before them those of the network as it was, unless they are the same.
    fitted, held_out : bool
        As for `Met.add`.
    """
    for number, (meeting, each) in enumerate(zip(together, met, strict=True)):
        drawn = [samples(meeting.products, values, (*seed, number)) for values in seen]
        each.add(drawn[-1], drawn[0] if len(drawn) > 1 else None, fitted=fitted, held_out=held_out)


def met_by(
    model: ir.Model,
    together: Sequence[Meeting],
    feeds: Sequence[Feeds],
    seed: int,
    told: Callable[[], None] = lambda: None,
) -> list[Met]:
    """Run a model, and add up what weights meet.

    Parameters
    ----------
    model : ir.Model
        The model.
    together : sequence of Meeting
        The weights.
    feeds : sequence of mapping of str to ndarray
        Inputs that it is run on.
    seed : int
        Seed of the positions that are taken.
    told : callable, optional
        Called after each run; not if there is nothing to be seen.

    Returns
    -------
    list of Met
        Of each meeting.
    """
    met = [Met() for _ in together]
    values = multiplied(together)
    for feed, found in enumerate(activations(model, values, feeds) if values else ()):
        add_run(met, together, (seed, feed), found)
        told()
    return met
