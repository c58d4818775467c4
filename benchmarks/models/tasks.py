"""The task of each model of the benchmark: its inputs, and the score of its answers."""

from __future__ import annotations

import importlib
import inspect
import json
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.models.boxes import agreement, detections, matches
from benchmarks.models.captchas import captchas, signs_of
from benchmarks.models.collect import MINILM
from benchmarks.models.pictures import scenes
from benchmarks.models.sounds import SPEECH_RATE, TEST_VOICES, notes, played, shared_notes, speech
from benchmarks.models.train import RECIPES, images_and_labels
from benchmarks.models.wordpiece import Tokenizer
from benchmarks.records.data import CIFAR_JPEG, jpeg_split
from benchmarks.records.nets import CIFAR_MEAN, CIFAR_SPREAD

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
BATCH = 500


def decisions_kept(answers: list[Array], dense: list[Array]) -> float:
    """Percent of the answers that lie on the same side of 1/2 as those of the dense model."""
    found, wanted = (np.concatenate([part.ravel() for part in each]) > 0.5 for each in (answers, dense))
    return 100 * float((found == wanted).mean())


@dataclass(frozen=True, eq=False)
class Task:
    """Inputs of a model and the score of its answers.

    ``batches`` run one after the other; ``state`` names (output, input) pairs that pass from one batch to the next.
    The answers are those outputs of every batch that ``outputs`` names, joined along the last axis; the first output
    if it names none. ``score`` turns them into percent by labels, if there are any; ``kept`` compares them with those
    of the dense model.
    """

    metric: str
    batches: tuple[Feeds, ...]
    score: Callable[[list[Array]], float] | None = None
    kept: Callable[[list[Array], list[Array]], float] = decisions_kept
    state: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def latency_feeds(self) -> Feeds:
        """One row of inputs, or the whole first batch if state passes between batches."""
        if self.state:
            return self.batches[0]
        return {name: values[:1] if values.ndim > 1 else values for name, values in self.batches[0].items()}

    def answers(self, session: Any) -> list[Array]:
        names = [output.name for output in session.get_outputs()]
        handed: Feeds = {}
        found = []
        for batch in self.batches:
            outputs = dict(zip(names, session.run(None, batch | handed), strict=True))
            handed = {entry: outputs[result] for result, entry in self.state}
            found.append(np.concatenate([outputs[name] for name in self.outputs or names[:1]], axis=-1))
        return found

    def percent(self, answers: list[Array], dense: list[Array]) -> float:
        """The score by labels; without labels, what is kept of the dense model's answers."""
        return self.kept(answers, dense) if self.score is None else self.score(answers)


def task_of(model: str, data: Path, folder: Path) -> Task:
    """The task for a model file of `collect`, named by its stem."""
    if model.startswith("ocr_"):
        return _ocr_task(model, folder)
    makers: dict[str, Callable[[], Task]] = {
        "lenet": lambda: _images_task("mnist", data, flat=True),
        "resnet20": lambda: _cifar_task(data),
        "resnet56": lambda: _cifar_task(data),
        "magika": lambda: _file_types_task(folder),
        "minilm": lambda: _retrieval_task(folder),
        "silero_vad": _speech_task,
        "silero_vad_16k": _speech_task,
        "basic_pitch": _notes_task,
        "captcha_reader": lambda: _captcha_task(folder),
        "nudenet": lambda: _detection_task(data, folder),
    }
    network = model.split("_")[0]
    return _images_task(RECIPES[network].dataset, data, flat=False) if network in RECIPES else makers[model]()


def _accuracy(labels: Array) -> Callable[[list[Array]], float]:
    return lambda answers: 100 * float((np.concatenate(answers).argmax(axis=1) == labels).mean())


def _batches(name: str, values: Array) -> tuple[Feeds, ...]:
    return tuple({name: values[start : start + BATCH]} for start in range(0, len(values), BATCH))


def _images_task(dataset: str, data: Path, *, flat: bool) -> Task:
    images, labels = (part.numpy() for part in images_and_labels(dataset, "test", data))
    images = images.reshape(len(images), -1) if flat else images
    return Task(f"{dataset} test accuracy", _batches("images", images), _accuracy(labels))


def _cifar_task(data: Path) -> Task:
    images, labels = (part.numpy() for part in jpeg_split(data / CIFAR_JPEG, "test"))
    mean, spread = (np.array(part, np.float32).reshape(3, 1, 1) for part in (CIFAR_MEAN, CIFAR_SPREAD))
    scaled = (images.astype(np.float32) / 255 - mean) / spread
    return Task("cifar10 (JPEG) test accuracy", _batches("images", scaled), _accuracy(labels))


# -- file types -------------------------------------------------------------------------------------------------------

FILE_TYPES = {
    ".c": "c", ".cmake": "cmake", ".css": "css", ".csv": "csv", ".gif": "gif", ".gz": "gzip", ".html": "html",
    ".ico": "ico", ".ipynb": "ipynb", ".js": "javascript", ".json": "json", ".md": "markdown", ".pl": "perl",
    ".png": "png", ".py": "python", ".pyc": "pythonbytecode", ".rst": "rst", ".sh": "shell", ".so": "elf",
    ".sql": "sql", ".svg": "svg", ".toml": "toml", ".ttf": "ttf", ".wasm": "wasm", ".whl": "zip", ".xml": "xml",
    ".yaml": "yaml",
}  # fmt: skip
FILES_PER_TYPE = 60


def _file_types_task(folder: Path) -> Task:
    """Recognise the type of files on this machine; the extension is the label."""
    config = json.loads((folder / "packages/magika/models/standard_v3_3/config.min.json").read_text())
    names: list[str] = config["target_labels_space"]
    rows, labels = [], []
    for kind, path in files_of_known_type():
        rows.append(magika_row(path, config))
        labels.append(names.index(kind))
    metric = f"type of {len(rows)} files of {len(set(labels))} kinds"
    return Task(metric, _batches("bytes", np.stack(rows)), _accuracy(np.array(labels)))


def magika_row(path: Path, config: dict[str, Any]) -> Array:
    """The first and last bytes of a file, as magika takes them."""
    data = path.read_bytes()
    size, block = config["beg_size"], config["block_size"]
    first, last = data[:block].lstrip()[:size], data[-block:].rstrip()[-size:]
    row = np.full(2 * size, config["padding_token"], np.int32)
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[2 * size - len(last) :] = np.frombuffer(last, np.uint8)
    return row


def files_of_known_type() -> Iterator[tuple[str, Path]]:
    left = dict.fromkeys(FILE_TYPES, FILES_PER_TYPE)
    for root in (Path(sysconfig.get_paths()["stdlib"]), Path(sysconfig.get_paths()["purelib"]), Path("/usr/share")):
        for path in sorted(root.rglob("*")):
            if left.get(path.suffix, 0) and path.is_file() and not path.is_symlink() and path.stat().st_size > 400:
                left[path.suffix] -= 1
                yield FILE_TYPES[path.suffix], path


# -- sentences --------------------------------------------------------------------------------------------------------

PAIRS = 400
MODULES = (
    "argparse", "ast", "asyncio", "bisect", "collections", "concurrent.futures", "contextlib", "csv", "ctypes.util",
    "datetime", "dataclasses", "decimal", "difflib", "email.message", "fractions", "functools", "gettext", "glob",
    "hashlib", "heapq", "http.client", "inspect", "ipaddress", "itertools", "json", "logging", "mailbox", "math",
    "mimetypes", "multiprocessing.pool", "numbers", "os", "pathlib", "pickle", "pickletools", "platform", "random",
    "re", "shutil", "socket", "sqlite3", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "tokenize", "traceback", "types", "typing", "unittest.case", "unittest.mock", "urllib.parse",
    "urllib.request", "uuid", "warnings", "weakref", "xml.dom.minidom", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip


def docstrings() -> list[tuple[str, str]]:
    """First line and body of the longer docstrings in the standard library: the first `PAIRS`."""
    return _all_docstrings()[:PAIRS]


def further_docstrings() -> list[tuple[str, str]]:
    """Those that `docstrings` leaves out."""
    return _all_docstrings()[PAIRS:]


def _all_docstrings() -> list[tuple[str, str]]:
    found = {}
    for name in MODULES:
        for _, value in sorted(_documented(importlib.import_module(name)), key=lambda item: item[0]):
            head, _, body = (inspect.getdoc(value) or "").partition("\n\n")
            if 20 < len(head) < 200 and len(body) > 120:
                found[" ".join(head.split())] = " ".join(body.split())[:400]
    return list(found.items())


def _documented(module: Any) -> Iterator[tuple[str, Any]]:
    """Functions, classes and methods of a module, with their names."""
    for name, value in vars(module).items():
        if inspect.isclass(value) and value.__module__ == module.__name__:
            yield name, value
            yield from ((f"{name}.{key}", method) for key, method in vars(value).items() if inspect.isroutine(method))
        elif inspect.isroutine(value):
            yield name, value


def _retrieval_task(folder: Path) -> Task:
    """Find the body of a docstring by its first line."""
    pairs = docstrings()
    tokenizer = Tokenizer((folder / "packages" / MINILM).with_name("vocab.txt"))
    batches = []
    for texts in zip(*pairs, strict=True):
        for start in range(0, len(texts), 50):
            tokens, mask = tokenizer.batch(texts[start : start + 50], length=128)
            batches.append({"tokens": tokens, "mask": mask})

    def score(answers: list[Array]) -> float:
        heads, bodies = np.split(np.concatenate(answers), 2)
        return 100 * float(((heads @ bodies.T).argmax(axis=1) == np.arange(len(heads))).mean())

    return Task(f"body of {len(pairs)} docstrings by first line", tuple(batches), score)


# -- sound ------------------------------------------------------------------------------------------------------------

CHUNK, CONTEXT = 512, 64
SPOKEN, WINDOWS = 40, 60


def _speech_task() -> Task:
    """Some minutes of speech, noise and silence; the dense model's decisions are the reference."""
    sound = speech([head for head, _ in docstrings()[:SPOKEN]], TEST_VOICES, seed=0)
    batches = [{**chunk, "state": np.zeros((2, 1, 128), np.float32)} for chunk in speech_chunks(sound[None])]
    return Task("decisions kept", tuple(batches), state=(("stateN", "state"),))


def speech_chunks(sounds: Array) -> Iterator[Feeds]:
    """Streams of sound (streams, samples) as silero takes them: chunks with a little of what came before."""
    for start in range(CONTEXT, sounds.shape[1] - CHUNK, CHUNK):
        yield {"input": sounds[:, start - CONTEXT : start + CHUNK], "sr": np.array(SPEECH_RATE, np.int64)}


NOTES_INPUT = "serving_default_input_2:0"
PITCHES = 88


def _notes_task() -> Task:
    """Notes of made-up instruments; the dense model's notes are the reference."""
    windows = played(WINDOWS, seed=0)
    batches = tuple({NOTES_INPUT: windows[start : start + 20]} for start in range(0, WINDOWS, 20))

    def heard(answers: list[Array]) -> Array:
        joined = np.concatenate(answers)
        return notes(joined[..., :PITCHES], joined[..., PITCHES:])

    def notes_kept(answers: list[Array], dense: list[Array]) -> float:
        found, wanted = heard(answers), heard(dense)
        return agreement(shared_notes(found, wanted), len(found), len(wanted))

    outputs = ("StatefulPartitionedCall:2", "StatefulPartitionedCall:1")
    return Task("notes kept", batches, kept=notes_kept, outputs=outputs)


# -- pictures ---------------------------------------------------------------------------------------------------------

SCENES, CAPTCHAS = 200, 400


def _detection_task(data: Path, folder: Path) -> Task:
    """Boxes of people and their faces, feet and clothes; those of the dense model are the reference."""
    images = scenes("test", SCENES, data, folder / "packages")
    batches = tuple({"images": images[start : start + 20]} for start in range(0, SCENES, 20))

    def boxes_kept(answers: list[Array], dense: list[Array]) -> float:
        found, wanted = ([detections(image) for image in np.concatenate(each)] for each in (answers, dense))
        common = sum(matches(here, there) for here, there in zip(found, wanted, strict=True))
        return agreement(common, sum(map(len, found)), sum(map(len, wanted)))

    return Task("boxes kept", batches, kept=boxes_kept)


def _captcha_task(folder: Path) -> Task:
    texts, images = captchas(CAPTCHAS, seed=0)
    signs = signs_of(folder / "packages/ddddocr/charsets.py")

    def read(answers: list[Array]) -> list[str]:
        return [_collapse(answer[:, 0].argmax(axis=1), signs).lower() for answer in answers]

    def texts_right(answers: list[Array]) -> float:
        return 100 * float(np.mean([text == guess for text, guess in zip(texts, read(answers), strict=True)]))

    def texts_kept(answers: list[Array], dense: list[Array]) -> float:
        return 100 * float(np.mean([here == there for here, there in zip(read(answers), read(dense), strict=True)]))

    return Task("captchas read", tuple({"input1": image} for image in images), texts_right, texts_kept)


# -- text in images ---------------------------------------------------------------------------------------------------

LINES = 150


def _ocr_task(model: str, folder: Path) -> Task:
    texts = [head[:28].strip() for head, _ in docstrings()[:LINES]]
    if model == "ocr_recognition":
        characters = _characters(folder / f"{model}.onnx")

        def characters_right(answers: list[Array]) -> float:
            read = [_collapse(answer[0].argmax(axis=1), characters) for answer in answers]
            wrong = sum(_edits(text, guess) for text, guess in zip(texts, read, strict=True))
            return 100 * (1 - wrong / sum(map(len, texts)))

        return Task("characters right", tuple({"x": line_image(text, 320)} for text in texts), characters_right)
    if model == "ocr_direction":
        upright = np.concatenate([line_image(text, 192) for text in texts])
        images = np.concatenate([upright, upright[:, :, ::-1, ::-1]])
        return Task("upright or turned", _batches("x", images), _accuracy(np.repeat([0, 1], len(texts))))
    pages = [np.concatenate([line_image(text, 320) for text in texts[i : i + 6]], axis=2) for i in range(0, LINES, 6)]
    return Task("text pixels kept", tuple({"x": page} for page in pages))


def line_image(text: str, width: int) -> Array:
    """Image (1, 3, 48, width), -1..1, of one line of black text."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=28)
    box = font.getbbox(text)
    canvas = Image.new("RGB", (int(box[2]) + 16, 48), "white")
    ImageDraw.Draw(canvas).text((8, 6), text, "black", font=font)
    resized = canvas.resize((width, 48)) if canvas.width > width else canvas
    image = np.ones((1, 3, 48, width), np.float32)
    image[0, :, :, : resized.width] = np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return image


def _characters(path: Path) -> list[str]:
    import onnx

    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return ["", *properties["character"].splitlines(), " "]


def _collapse(best: Array, characters: list[str]) -> str:
    """Greedy decoding of connectionist temporal classification (Graves et al. 2006)."""
    kept = np.append(True, best[1:] != best[:-1])
    return "".join(characters[index] for index in best[kept])


def _edits(first: str, second: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
