"""Values that flow through a network at a cut, for every set of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sws_compress.ort.activations import Feeds
from sws_compress.ort.session import Array
from sws_compress.pipelines.held_arrays import HeldArrays
from sws_compress.pipelines.work_folder import WorkFolder


class ActivationStore:
    """Values by set of inputs and name. Those of the model's inputs are the caller's arrays.

    Parameters
    ----------
    folder : WorkFolder or HeldArrays
        Where they lie.
    network : str
        Which network they flow in.
    feeds : sequence of mapping of str to ndarray
        The sets of inputs.
    lasting : bool
        Whether another run shall find them.
    before : ActivationStore, optional
        Where values are that are not here: the network was another one's copy before.
    """

    def __init__(
        self,
        folder: WorkFolder | HeldArrays,
        network: str,
        feeds: Sequence[Feeds],
        *,
        lasting: bool = True,
        before: ActivationStore | None = None,
    ) -> None:
        self._folder, self._network, self.feeds = folder, network, feeds
        self._lasting, self._before = lasting, before

    def get(self, feed: int, names: Iterable[str]) -> dict[str, Array]:
        """Values of one set of inputs."""
        return {name: self._value(feed, name) for name in names}

    def _value(self, feed: int, name: str) -> Array:
        given = self.feeds[feed]
        if name in given:
            return np.asarray(given[name])
        if self._before is not None and not self._folder.has(self._key(feed, name)):
            return self._before._value(feed, name)
        return self._folder.load(self._key(feed, name))[0]

    def put(self, feed: int, values: Mapping[str, Array]) -> None:
        """Keep values of one set of inputs."""
        for name, array in values.items():
            self._folder.save(self._key(feed, name), array, lasting=self._lasting)

    def drop(self, names: Iterable[str]) -> None:
        """Forget values of all sets of inputs."""
        for name in names:
            for feed, given in enumerate(self.feeds):
                if name not in given:
                    self._folder.drop(self._key(feed, name))

    def _key(self, feed: int, name: str) -> str:
        return f"{self._network} {feed} {name}"
