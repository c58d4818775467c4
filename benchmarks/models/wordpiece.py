"""The uncased WordPiece tokenizer of BERT, for plain text (Devlin et al. 2019; Wu et al. 2016)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


class Tokenizer:
    """Tokenizer of a vocabulary file with one piece per line; pieces inside a word start with ##."""

    def __init__(self, vocabulary: Path) -> None:
        self.pieces = {piece: i for i, piece in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}

    def batch(self, texts: Sequence[str], *, length: int) -> tuple[Tokens, Tokens]:
        """Tokens and mask, (n, longest) int64; texts are cut at ``length`` tokens."""
        rows = [[self.pieces["[CLS]"], *list(self._text(text))[: length - 2], self.pieces["[SEP]"]] for text in texts]
        tokens = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(tokens)
        for i, row in enumerate(rows):
            tokens[i, : len(row)], mask[i, : len(row)] = row, 1
        return tokens, mask

    def _text(self, text: str) -> Iterator[int]:
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        for word in re.findall(r"\w+|[^\w\s]", plain.replace("_", " _ ")):
            yield from self._word(word)

    def _word(self, word: str) -> list[int]:
        """Longest pieces from the left, or one unknown token if they do not cover the word."""
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.pieces)
            end = next(ends, None)
            if end is None:
                return [self.pieces["[UNK]"]]
            found.append(self.pieces[prefix + word[start:end]])
            start = end
        return found
