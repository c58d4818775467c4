"""Inputs for calibration: of the same kind as those of the tasks, and none of them.

Lines of text, sentences and speech come from further docstrings, and speech from other voices. Images come from the
training set, pictures of people are other pictures. Files have other names, captchas and notes another seed. No labels
are used.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models.captchas import captchas
from benchmarks.models.collect import MINILM
from benchmarks.models.measure import session
from benchmarks.models.pictures import scenes
from benchmarks.models.sounds import CALIBRATION_VOICES, played, speech
from benchmarks.models.tasks import (
    CHUNK,
    NOTES_INPUT,
    Feeds,
    files_of_known_type,
    further_docstrings,
    line_image,
    magika_row,
    speech_chunks,
)
from benchmarks.models.train import images_and_labels
from benchmarks.models.wordpiece import Tokenizer
from benchmarks.records.data import CIFAR_JPEG, jpeg_split
from benchmarks.records.nets import CIFAR_MEAN, CIFAR_SPREAD

ROWS = 256
LINES = 100
STREAMS = 8


def calibration_of(model: str, data: Path, folder: Path) -> Any:
    """Calibration inputs for a model file of `collect`, named by its stem; KeyError for others."""
    if model.startswith("ocr_"):
        return _lines(model)
    makers = {
        "lenet": lambda: _mnist(data),
        "resnet20": lambda: _cifar(data),
        "resnet56": lambda: _cifar(data),
        "magika": lambda: _files(folder),
        "minilm": lambda: _sentences(folder),
        "silero_vad": lambda: _speech(folder / "silero_vad.onnx"),
        "silero_vad_16k": lambda: _speech(folder / "silero_vad_16k.onnx"),
        "basic_pitch": lambda: {NOTES_INPUT: played(64, seed=1)},
        "captcha_reader": lambda: [{"input1": image} for image in captchas(ROWS, seed=1)[1]],
        "nudenet": lambda: {"images": scenes("train", ROWS // 2, data, folder / "packages")},
    }
    return makers[model]()


def _words(length: int, count: int) -> list[str]:
    """Runs of words from the bodies of further docstrings, at random places."""
    words = [word for _, body in further_docstrings() for word in body.split()]
    starts = np.random.default_rng(5).integers(0, len(words) - length, count)
    return [" ".join(words[start : start + length]) for start in starts]


def _lines(model: str) -> Any:
    texts = [text[:28] for text in _words(5, LINES)]
    if model == "ocr_recognition":
        return [{"x": line_image(text, 320)} for text in texts]
    if model == "ocr_direction":
        upright = np.concatenate([line_image(text, 192) for text in texts])
        return {"x": np.concatenate([upright, upright[:, :, ::-1, ::-1]])}
    pages = [[line_image(text, 320) for text in texts[i : i + 6]] for i in range(0, LINES - 6, 6)]
    return [{"x": np.concatenate(page, axis=2)} for page in pages]


def _mnist(data: Path) -> Feeds:
    images = images_and_labels("mnist", "train", data)[0].numpy()[:ROWS]
    return {"images": images.reshape(len(images), -1)}


def _cifar(data: Path) -> Feeds:
    images = jpeg_split(data / CIFAR_JPEG, "train")[0].numpy()[:ROWS]
    mean, spread = (np.array(part, np.float32).reshape(3, 1, 1) for part in (CIFAR_MEAN, CIFAR_SPREAD))
    return {"images": (images.astype(np.float32) / 255 - mean) / spread}


def _files(folder: Path) -> Feeds:
    """Beginnings and ends of files that the task does not have, of as many kinds as there are."""
    config = json.loads((folder / "packages/magika/models/standard_v3_3/config.min.json").read_text())
    known = {path for _, path in files_of_known_type()}
    random = np.random.default_rng(1)
    rows = [magika_row(path, config) for path in _some_of_each_kind(known, random)]
    return {"bytes": np.stack([rows[i] for i in random.permutation(len(rows))[:ROWS]])}


def _some_of_each_kind(known: set[Path], random: np.random.Generator) -> Iterator[Path]:
    kinds: dict[str, list[Path]] = {}
    for root in (Path(sysconfig.get_paths()["stdlib"]), Path("/usr/share")):
        for path in sorted(root.rglob("*")):
            if path not in known and path.suffix and path.is_file() and path.stat().st_size > 400:
                kinds.setdefault(path.suffix, []).append(path)
    for paths in kinds.values():
        yield from (paths[i] for i in random.permutation(len(paths))[:6])


def _speech(model: Path) -> list[Feeds]:
    """512 chunks in eight streams, with the states that the model has then."""
    sound = speech(_words(12, 24), CALIBRATION_VOICES, seed=1)
    sounds = sound[: len(sound) // STREAMS * STREAMS].reshape(STREAMS, -1)
    runtime, state = session(str(model)), np.zeros((2, STREAMS, 128), np.float32)
    feeds = []
    for chunk in speech_chunks(sounds[:, : CHUNK * (2 * ROWS // STREAMS + 2)]):
        feeds.append({**chunk, "state": state})
        state = runtime.run(["stateN"], feeds[-1])[0]
    return feeds[: 2 * ROWS // STREAMS]


def _sentences(folder: Path) -> list[Feeds]:
    tokenizer = Tokenizer((folder / "packages" / MINILM).with_name("vocab.txt"))
    texts, feeds = _words(60, ROWS // 2), []
    for start in range(0, len(texts), 8):
        tokens, mask = tokenizer.batch(texts[start : start + 8], length=128)
        feeds.append({"tokens": tokens, "mask": mask})
    return feeds
