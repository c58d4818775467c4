"""Other ways to make models small, and ours, in one run: bytes as they are, after gzip and after brotli, and scores.

    python -m benchmarks.models.opponents --data FOLDER [--folder FOLDER] [--models NAME ...] [--ways WAY ...]
        [--ours-only]

Ways are ONNX Runtime's int8 (dynamic, and static with the calibration inputs that ours has) and 4 bits, float16,
onnx-shrink-ray, coremltools' palettiser, NNCodec over its range, k-means with our container (plain, and weighted by
Fisher information), and ours: without inputs and with them. Opponents run in environments of their own, which are made
under the folder. What was made and measured is kept there by content (the model, the way, the sources), so that a run
goes on where another was stopped. ``--ours-only`` measures our ways again, or those that ``--ways`` names, and takes
the other rows from the committed results. Every row is also in ``opponents/MODEL.json``, which takes the place of the
committed file by a copy; `render` makes pages and pictures of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import sws_compress
import sws_compress as sws
from benchmarks.environment import environment
from benchmarks.models import calibration, tasks
from benchmarks.models.measure import session
from benchmarks.models.opponents.environments import HERE, python_of, run_in
from benchmarks.models.opponents.goals import ALONE
from benchmarks.models.opponents.tensors import float_tensors, with_tensors, without_tensors
from benchmarks.models.places import add_arguments
from benchmarks.models.tasks import Array, Feeds, Task, task_of
from sws_compress.quantize.cluster import cluster

MODELS = (
    "lenet", "resnet20", "magika", "basic_pitch", "silero_vad_16k", "ocr_detection", "ocr_recognition", "resnet56",
    "nudenet", "captcha_reader", "minilm",
)  # fmt: skip
LIMIT_SECONDS = 300.0
"""Longest time for making one file, and for scoring it."""

SEED = 0
MAKE = (
    "int8 dynamic", "int8 dynamic, channels", "int8 static", "4 bits RTN", "4 bits HQQ", "4 bits k_quant", "float16",
    "shrink-ray", "shrink-ray, channels", "shrink-ray float 256", "shrink-ray float 64", "shrink-ray float 32",
    "shrink-ray float 16", "coremltools 3 bits", "coremltools 4 bits", "coremltools 6 bits",
)  # fmt: skip
NNCODEC = (-44, -40, -36, -32, -28, -24, -20, -16, -12)
LEAST_CODED = 64
"""Smaller tensors are not given to NNCodec."""

COMPONENTS = (4, 8, 16, 32, 64, 256)
QUALITIES = (8.0, 10.0, 12.0, 15.0, 18.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0)
"""Decibels of our files, with inputs and without them."""

FEW_QUALITIES = (10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
FEW_FROM_BYTES = 3_500_000
"""Models from here on have few qualities, since each file takes minutes."""

LARGE_BYTES = 20_000_000
"""Larger models have no Fisher information."""

RATIOS = (8.0, 10.0)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model of the benchmark, its task, and what is measured once."""

    name: str
    data: Path
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.onnx"

    @cached_property
    def task(self) -> Task:
        return task_of(self.name, self.data, self.folder)

    @cached_property
    def inputs(self) -> Any:
        return calibration.calibration_of(self.name, self.data, self.folder)

    @cached_property
    def answers(self) -> list[Array]:
        return self.task.answers(session(str(self.path)))

    @cached_property
    def identity(self) -> str:
        """A digest of the model and of what scores it."""
        sources = sorted(Path(tasks.__file__).parent.glob("*.py"))
        return _digest(self.path.read_bytes(), *(path.read_bytes() for path in sources if path.stem in SCORING))

    def feeds(self) -> list[Feeds]:
        """The calibration inputs, one row each if they are arrays of many rows."""
        if not isinstance(self.inputs, Mapping):
            return list(self.inputs)
        rows = len(next(iter(self.inputs.values())))
        return [{name: values[i : i + 1] for name, values in self.inputs.items()} for i in range(rows)]


SCORING = {"tasks", "calibration", "boxes", "captchas", "pictures", "sounds", "wordpiece"}


class Limited:
    """A session whose runs together may take so long."""

    def __init__(self, runtime: Any, seconds: float) -> None:
        self._runtime, self._until = runtime, time.perf_counter() + seconds

    def get_outputs(self) -> Any:
        return self._runtime.get_outputs()

    def run(self, names: Any, feeds: Feeds) -> Any:
        if time.perf_counter() > self._until:
            raise TimeoutError(f"stopped after {LIMIT_SECONDS:.0f} seconds of scoring")
        return self._runtime.run(names, feeds)


# -- ways -------------------------------------------------------------------------------------------------------------

Maker = Callable[[Subject, Path], dict[str, Any]]


def as_it_is(subject: Subject, target: Path) -> dict[str, Any]:
    shutil.copyfile(subject.path, target)
    return {}


def by_worker(variant: str) -> Maker:
    def make(subject: Subject, target: Path) -> dict[str, Any]:
        feeds = subject.folder / "opponents" / f"{subject.name}.feeds.npz"
        if variant == "int8 static":
            write_feeds(subject, feeds)
        python = python_of("onnx", subject.folder)
        run_in(python, "onnx_worker", variant, subject.path.absolute(), feeds.absolute(), target.absolute(),
               limit_seconds=LIMIT_SECONDS)  # fmt: skip
        return {}

    return make


def by_nncodec(qp: int) -> Maker:
    def make(subject: Subject, target: Path) -> dict[str, Any]:
        dense = onnx.load(subject.path)
        values = float_tensors(dense, least_size=LEAST_CODED)
        arrays, decoded, stream = (target.absolute().with_suffix(end) for end in (".npz", ".decoded.npz", ".stream"))
        np.savez(arrays, **values)  # type: ignore[arg-type]
        try:
            python = python_of("nncodec", subject.folder)
            run_in(python, "nncodec_worker", str(qp), arrays, decoded, stream, limit_seconds=4 * LIMIT_SECONDS)
            with np.load(decoded, allow_pickle=False) as loaded:
                onnx.save(with_tensors(dense, dict(loaded.items())), target)
            Path(f"{target}.sent").write_bytes(without_tensors(dense, values) + stream.read_bytes())
            return {"stream_bytes": stream.stat().st_size}
        finally:
            for path in (arrays, decoded, stream):
                path.unlink(missing_ok=True)

    return make


def by_us(request: Callable[[Subject], Any], ratio: float | None = None) -> Maker:
    def make(subject: Subject, target: Path) -> dict[str, Any]:
        result = sws.compress(subject.path, target, request(subject), ratio=ratio, seed=SEED)
        return {"notes": list(result.notes), **told(result)}

    return make


def told(result: sws.CompressionResult) -> dict[str, Any]:
    """What a result says of its errors: those of the worst output and of scores (None: not measured), and warnings."""
    errors = {"told_error": result.output_error, "told_score_error": result.score_error}
    return {key: error if math.isfinite(error) else None for key, error in errors.items()} | {
        "warnings": list(result.warnings)
    }


def by_fisher(components: int) -> Maker:
    """k-means weighted by Fisher information; weights without it are clustered plainly."""

    def make(subject: Subject, target: Path) -> dict[str, Any]:
        feeds, found = (subject.folder / "opponents" / f"{subject.name}.{end}.npz" for end in ("feeds", "fisher"))
        if not found.exists():
            write_feeds(subject, feeds)
            python, draft = python_of("fisher", subject.folder), found.with_suffix(".draft.npz")
            run_in(python, "fisher_worker", subject.path.absolute(), feeds.absolute(), draft.absolute(),
                   limit_seconds=LIMIT_SECONDS)  # fmt: skip
            draft.replace(found)
        dense = onnx.load(subject.path)
        values, clustered = float_tensors(dense, least_size=1), {}
        with np.load(found, allow_pickle=False) as information:
            for number in information.files:
                sensitivity = sws.Sensitivity(information[number]) if information[number].any() else None
                clustering = cluster(values[number], components, sensitivity=sensitivity, seed=SEED)
                clustered[number] = clustering.palette.expand()
        snapped = target.with_suffix(".snapped.onnx")
        onnx.save(with_tensors(dense, clustered), snapped)
        try:
            sws.compress(snapped, target, sws.WeightsOnly(components=components), seed=SEED)
        finally:
            snapped.unlink(missing_ok=True)
        return {}

    return make


def write_feeds(subject: Subject, target: Path) -> None:
    """The calibration inputs for workers."""
    arrays = {f"{i}/{name}": value for i, feed in enumerate(subject.feeds()) for name, value in feed.items()}
    np.savez(target, **arrays)  # type: ignore[arg-type]


def calibrated(quality: float) -> Callable[[Subject], Any]:
    return lambda subject: sws.Calibrated(inputs=subject.inputs, quality=quality)


def ways(subject: Subject) -> dict[str, tuple[str, Maker]]:
    """Every way by its name, with the family that it is chosen by."""
    found: dict[str, tuple[str, Maker]] = {"dense": ("dense", as_it_is)}
    found |= {name: (name.partition(" ")[0], by_worker(name)) for name in MAKE}
    found |= {f"NNCodec qp {qp}": ("nncodec", by_nncodec(qp)) for qp in NNCODEC}
    found |= {f"k-means {k}": ("k-means", by_us(lambda _, k=k: sws.WeightsOnly(components=k))) for k in COMPONENTS}
    size = subject.path.stat().st_size
    if size <= LARGE_BYTES:
        found |= {f"Fisher k-means {k}": ("fisher", by_fisher(k)) for k in COMPONENTS}
    qualities = FEW_QUALITIES if size >= FEW_FROM_BYTES else QUALITIES
    found[ALONE] = ("ours", by_us(lambda _: sws.WeightsOnly()))
    for quality in qualities:
        found[f"weights only, {quality:g} dB"] = ("ours", by_us(lambda _, q=quality: sws.WeightsOnly(quality=q)))
    found |= {f"calibrated, {quality:g} dB": ("ours", by_us(calibrated(quality))) for quality in qualities}
    found |= {
        f"calibrated, ratio {ratio:g}": ("ours", by_us(lambda subject: sws.Calibrated(inputs=subject.inputs), ratio))
        for ratio in RATIOS
    }
    return found


# -- measuring --------------------------------------------------------------------------------------------------------


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:20]


OUR_FAMILIES = ("ours", "k-means", "fisher")
"""Families whose files this package makes."""


def sources_of(family: str) -> bytes:
    """What decides about the files of a family, beside the model."""
    if family in OUR_FAMILIES:
        files = sorted(Path(sws_compress.__file__).parent.rglob("*.py"))
    else:
        worker = "nncodec" if family == "nncodec" else "onnx"
        files = [HERE / name for name in ("tensors.py", f"{worker}_worker.py", f"requirements-{worker}.txt")]
    return b"\0".join(path.read_bytes() for path in files)


def cached(subject: Subject, name: str, family: str) -> Path:
    """Where the row of a way is kept: a name for all that decides about it."""
    folder = subject.folder / "opponents" / "cache" / subject.name
    folder.mkdir(parents=True, exist_ok=True)
    digest = _digest(subject.identity.encode(), name.encode(), sources_of(family))
    return folder / f"{name.replace(' ', '_').replace(',', '')}.{digest}.json"


def measured(subject: Subject, name: str, family: str, make: Maker) -> dict[str, Any]:
    """The row of a way. A way that cannot be gone has the reason in its row."""
    kept = cached(subject, name, family)
    row: dict[str, Any] = {"model": subject.name, "way": name, "family": family}
    target = kept.with_name(kept.name.partition(".")[0] + ".onnx")
    sent = target.with_name(f"{target.name}.sent")
    sent.unlink(missing_ok=True)
    try:
        started = time.perf_counter()
        row |= make(subject, target)
        row["seconds"] = time.perf_counter() - started
        row |= measured_file(subject, target, sent if sent.exists() else target)
    except Exception as error:  # a failure of another tool is a result
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        row["failure"] = reason.replace(str(subject.folder.absolute()), "FOLDER")
    kept.write_text(json.dumps(row))
    return row


def measured_file(subject: Subject, runs: Path, sent: Path) -> dict[str, Any]:
    """Sizes of what is sent, and what the model that runs is worth."""
    python = python_of("onnx", subject.folder)
    row: dict[str, Any] = json.loads(
        run_in(python, "onnx_worker", "size", sent.absolute(), limit_seconds=LIMIT_SECONDS)
    )
    answers = subject.task.answers(Limited(session(str(runs)), LIMIT_SECONDS))
    return row | {
        "score": subject.task.percent(answers, subject.answers),
        "kept": subject.task.kept(answers, subject.answers),
        "error_db": error_db(answers, subject.answers),
    }


def error_db(answers: list[Array], dense: list[Array]) -> float:
    """Energy of the dense model's answers over that of the error, in decibels; 150 at most."""
    energy = sum(float(np.square(part, dtype=np.float64).sum()) for part in dense)
    error = sum(
        float(np.square(np.subtract(part, wanted, dtype=np.float64)).sum())
        for part, wanted in zip(answers, dense, strict=True)
    )
    if not np.isfinite(error):
        return float("-inf")
    return min(150.0, 10 * float(np.log10(energy / max(error, 1e-300))))


def measure(subject: Subject, chosen: list[str], known: Mapping[str, dict[str, Any]]) -> None:
    """Measure chosen ways for a model; write and print all rows that are kept or ``known`` by their way."""
    target = subject.folder / "opponents" / f"{subject.name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"environment": environment(), "seed": SEED, "metric": subject.task.metric}
    listed = "\n".join(file.read_text() for file in sorted(HERE.glob("requirements-*.txt")))
    report["opponents"] = [entry for entry in listed.splitlines() if "==" in entry]
    rows = report["rows"] = []
    for name, (family, make) in ways(subject).items():
        kept = cached(subject, name, family)
        if kept.exists():
            rows.append(json.loads(kept.read_text()))
        elif name in known and not {family, name} & set(chosen):
            rows.append(known[name])
        elif not chosen or family == "dense" or {family, name} & set(chosen):
            rows.append(measured(subject, name, family, make))
        else:
            continue
        print(line(rows[-1]), flush=True)
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def committed_rows(model: str) -> dict[str, dict[str, Any]]:
    """Committed rows of a model by their ways."""
    path = HERE / "results" / f"{model}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return {row["way"]: row for row in rows}


def line(row: dict[str, Any]) -> str:
    if "failure" in row:
        return f"| {row['model']} | {row['way']} | {row['failure']} | | | | | |"
    cells = (f"{row[key]:,}" for key in ("bytes", "gzip_bytes", "brotli_bytes"))
    return f"| {row['model']} | {row['way']} | {' | '.join(cells)} | {row['score']:.2f} | {row['error_db']:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--ways", nargs="*", default=[], metavar="WAY", help="only these families or ways")
    parser.add_argument("--ours-only", action="store_true", help="take other rows from the committed results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| model | way | bytes | gzip | brotli | score % | error dB |\n|---|---|---|---|---|---|---|")
    for name in arguments.models:
        known = committed_rows(name) if arguments.ours_only else {}
        chosen = arguments.ways or (["ours"] if arguments.ours_only else [])
        measure(Subject(name, arguments.data, arguments.folder), chosen, known)


if __name__ == "__main__":
    main()
