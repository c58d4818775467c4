"""Shapes (out, in) of the weight matrices of decoder-only transformers, as their modules hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A transformer with grouped keys and values, gated feed-forward layers, and untied embeddings."""

    layers: int
    width: int
    key_width: int
    feed_forward: int
    vocabulary: int

    def matrices(self) -> list[tuple[int, int]]:
        """Shapes of all matrices; each is one group of weights."""
        layer = [
            (self.width, self.width),  # queries
            (self.key_width, self.width),  # keys
            (self.key_width, self.width),  # values
            (self.width, self.width),  # output
            (self.feed_forward, self.width),  # gate
            (self.feed_forward, self.width),  # up
            (self.width, self.feed_forward),  # down
        ]
        return [(self.vocabulary, self.width), *(self.layers * layer), (self.vocabulary, self.width)]

    @property
    def weights(self) -> int:
        return sum(rows * columns for rows, columns in self.matrices())


TRANSFORMERS = {
    "1 B": Transformer(layers=16, width=2048, key_width=512, feed_forward=8192, vocabulary=32_000),
    "70 B": Transformer(layers=80, width=8192, key_width=1024, feed_forward=28_672, vocabulary=128_256),
}
