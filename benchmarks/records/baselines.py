"""The alternating loop beside its ancestors: one float LeNet-300-100, three methods, one packer.

    python -m benchmarks.records.baselines                     # every run, then the table, JSON and picture
    python -m benchmarks.records.baselines --method loop       # only its points
    python -m benchmarks.records.baselines --table             # only the table, from the runs that exist

All three methods start from the same network, see the same batches (shifted by up to a pixel) and the same teacher, and
train for the same number of epochs, once per seed. Every run writes an ONNX file and a JSON into ``--folder``; runs
that exist are not repeated. For each method only the points on the front of mean bytes against mean validation error
are measured on the test images. The script writes ``baselines.json`` beside the folder. With ``--commit`` it also
writes it here, and the picture into ``docs/images``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import environment
from benchmarks.records.deep_compression import DeepCompression, train_deep_compression
from benchmarks.records.float_nets import FOLDER
from benchmarks.records.gradient_mixture import GradientMixture, train_gradient_mixture
from benchmarks.records.nets import error_percent
from benchmarks.records.run import LENET, MNIST, file_error_percent, packed_for, payload_bytes
from benchmarks.records.taught import TaughtBatches, taught_batches, taught_loss, write_file
from sws_compress.api import compress
from sws_compress.demo.lenet import LeNet300100, load_lenet
from sws_compress.demo.mnist import Split, load_mnist
from sws_compress.file_options import FileOptions
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.train.request import FineTuned
from sws_compress.train.sharing import Sharing

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent.parent / "docs" / "images" / "baselines.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """Settings of `sws_compress.compress`, as in the demo."""

    target_bytes: int
    components: int = 7
    learning_rate: float = 1.2e-3


Settings = Loop | GradientMixture | DeepCompression

POINTS: Mapping[str, Sequence[Settings]] = {
    "gradient_mixture": [GradientMixture(tau=tau) for tau in (0.1, 0.03, 0.3, 1.0)],
    "deep_compression": [
        DeepCompression(density=density, values=values)
        for density, values in ((0.035, 16), (0.05, 16), (0.02, 8), (0.08, 32))
    ],
    "loop": [Loop(target_bytes=size) for size in (5_600, 8_000, 4_400, 12_000)],
}

NAMES = {
    "loop": "this loop",
    "gradient_mixture": "mixture by gradients (Ullrich et al. 2017)",
    "deep_compression": "pruning, k-means, Huffman (Han et al. 2016)",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """The network and its data; images of the splits have shape (n, 784)."""

    network: LeNet300100
    batches: TaughtBatches
    validation: Split
    test: Split

    @property
    def example(self) -> torch.Tensor:
        return self.validation.images[:8]


def load_task(batch_size: int, images: int | None = None) -> Task:
    """The task with the first ``images`` training images; None takes all."""
    training, *others = load_mnist(MNIST)
    training = Split(training.images[:images], training.labels[:images])
    network = load_lenet(LENET)
    validation, test = (Split(split.images.flatten(1), split.labels) for split in others)
    return Task(network, taught_batches(training, network, batch_size), validation, test)


def rounds(methods: Sequence[str]) -> list[tuple[str, Settings]]:
    """The first point of every method, then the second, and so on: an interrupted run still compares methods."""
    every = itertools.zip_longest(*([(method, point) for point in POINTS[method]] for method in methods))
    return [pair for pairs in every for pair in pairs if pair is not None]


def run_once(method: str, settings: Settings, task: Task, output: Path, *, epochs: int, seed: int) -> dict[str, Any]:
    """Compress to ``output``; returns all figures but those of the test images."""
    started = time.process_time()
    torch.manual_seed(seed)
    if isinstance(settings, Loop):
        result = compress(
            task.network,
            output,
            FineTuned(
                train=task.batches,
                loss=taught_loss,
                components=settings.components,
                learning_rate=settings.learning_rate,
                epochs=epochs,
                parameters=lambda name, parameter: True,
                sharing=Sharing.MODULE,
            ),
            target_bytes=settings.target_bytes,
            example_inputs=task.example,
            seed=seed,
        )
        assert result.network is not None
        network: Any = result.network
    else:
        network = LeNet300100()
        network.load_state_dict(task.network.state_dict())
        if isinstance(settings, GradientMixture):
            train_gradient_mixture(network, task.batches, settings, epochs=epochs)
        else:
            train_deep_compression(network, task.batches, settings, epochs=epochs)
        write_file(network, output, task.example)
    parameters = [parameter.detach() for parameter in network.parameters()]
    return {
        "method": method,
        "settings": dataclasses.asdict(settings),
        "epochs": epochs,
        "batch_size": task.batches.batch_size,
        "seed": seed,
        "file": output.name,
        "file_bytes": output.stat().st_size,
        "payload_bytes": payload_bytes(*packed_for(FileOptions(), from_torch(network, (task.example,)))),
        "zeros": sum(int((p == 0).sum()) for p in parameters) / sum(p.numel() for p in parameters),
        "distinct_values": [int(p.unique().numel()) for p in parameters],
        "validation_error_percent": file_error_percent(output, task.validation),
        "cpu_seconds": time.process_time() - started,
    }


def front(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Points that no other point beats in both bytes and validation error, smallest file first."""
    kept: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda p: (p["file_bytes"], p["validation_error_percent"])):
        if not kept or point["validation_error_percent"] < kept[-1]["validation_error_percent"]:
            kept.append(point)
    return kept


OF_A_POINT = ("method", "settings", "epochs", "batch_size")
AVERAGED = ("file_bytes", "payload_bytes", "zeros", "validation_error_percent")


def averaged(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average the figures of all seeds; one point per setting."""
    of_a_point: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        of_a_point.setdefault(json.dumps([run[key] for key in OF_A_POINT]), []).append(run)
    points = []
    for own in of_a_point.values():
        point: dict[str, Any] = {key: own[0][key] for key in OF_A_POINT}
        point |= {key: statistics.mean(run[key] for run in own) for key in AVERAGED}
        rest = [{key: value for key, value in run.items() if key not in OF_A_POINT} for run in own]
        points.append({**point, "runs": sorted(rest, key=itemgetter("seed"))})
    return points


def summary(runs: Sequence[Mapping[str, Any]], task: Task, folder: Path) -> dict[str, Any]:
    """All points (with test errors on the fronts), the errors of the float network, and the environment."""
    parameters = sum(parameter.numel() for parameter in task.network.parameters())
    points = sorted(averaged(runs), key=lambda point: list(NAMES).index(point["method"]))
    for method in NAMES:
        own = [point for point in points if point["method"] == method]
        best = front(own)
        for point in own:
            point["file_ratio"] = 4 * parameters / point["file_bytes"]
            point["on_front"] = any(point is other for other in best)
            for run in point["runs"] if point["on_front"] else []:
                run["test_error_percent"] = file_error_percent(folder / run["file"], task.test)
    return {
        "parameters": parameters,
        "float_validation_error_percent": error_percent(task.network, task.validation),
        "float_test_error_percent": error_percent(task.network, task.test),
        "points": points,
        "environment": environment(),
    }


def mean_test_error(point: Mapping[str, Any]) -> float:
    return statistics.mean(run["test_error_percent"] for run in point["runs"])


def table(figures: Mapping[str, Any]) -> str:
    """Markdown table of the points on the fronts: the result of every seed, and the mean test error."""
    rows = ["| method | file bytes | ratio | payload bytes | zeros | validation error % | test error % | mean |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    best = [point for point in figures["points"] if point["on_front"]]
    for point in sorted(best, key=lambda p: (list(NAMES).index(p["method"]), p["file_bytes"])):
        cells = [NAMES[point["method"]], each(point, "file_bytes", ",.0f"), f"{point['file_ratio']:.1f}x"]
        cells += [each(point, "payload_bytes", ",.0f"), f"{100 * point['zeros']:.1f} %"]
        cells += [each(point, f"{split}_error_percent", ".2f") for split in ("validation", "test")]
        rows.append(f"| {' | '.join(cells)} | {mean_test_error(point):.2f} |")
    return "\n".join(rows)


def each(point: Mapping[str, Any], key: str, form: str) -> str:
    return " / ".join(format(run[key], form) for run in point["runs"])


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Plot file bytes against test error: a curve per method through the means of the seeds, and a dot per file."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    sheet = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = sheet.subplots()
    for (method, name), colour, marker in zip(NAMES.items(), ("#c2410c", "#1d4ed8", "#4b5563"), "osD", strict=True):
        best = [point for point in figures["points"] if point["method"] == method and point["on_front"]]
        pairs = sorted((point["file_bytes"], mean_test_error(point)) for point in best)
        axes.plot(*zip(*pairs, strict=True), color=colour, linewidth=1.6)
        files = [(run["file_bytes"], run["test_error_percent"]) for point in best for run in point["runs"]]
        axes.plot(*zip(*files, strict=True), linestyle="", marker=marker, markersize=5, color=colour, label=name)
    axes.axhline(figures["float_test_error_percent"], color="#8a8f98", linestyle=":", linewidth=1)
    axes.annotate(
        "float network, 1,066 kB", (0.01, figures["float_test_error_percent"] - 0.05), va="top",
        xycoords=("axes fraction", "data"), fontsize=8, color="#4b5563",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([size for size in (4e3, 6e3, 10e3, 15e3, 20e3, 30e3, 50e3) if size <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size / 1000:g} kB"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="ONNX file on disk", ylabel="test error, %", ylim=(0, None))
    axes.set_title("LeNet-300-100 on MNIST, equal training and one packer", fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    sheet.savefig(path, dpi=130, metadata={"Software": None})


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=list(NAMES), action="append")
    parser.add_argument("--table", action="store_true", help="print the table without running anything")
    parser.add_argument("--commit", action="store_true", help="write JSON and picture to their committed places")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, help="number of training images (default: all 55,000)")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds, from 0 on")
    parser.add_argument("--folder", type=Path, default=FOLDER / "baselines")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    options.folder.mkdir(parents=True, exist_ok=True)
    task = load_task(options.batch_size, options.images)
    planned = itertools.product(range(options.seeds), rounds(options.method or list(POINTS)))
    for seed, (method, settings) in [] if options.table else planned:
        name = "_".join([method, *(f"{value:g}" for value in list(dataclasses.asdict(settings).values())[:2])])
        note = options.folder / f"{name}_seed{seed}.json"
        if not note.exists():
            output = note.with_suffix(".onnx")
            run = run_once(method, settings, task, output, epochs=options.epochs, seed=seed)
            note.write_text(json.dumps(run, indent=2) + "\n")
            print(json.dumps(run), flush=True)
    runs = [json.loads(note.read_text()) for note in sorted(options.folder.glob("*.json"))]
    if {run["method"] for run in runs} != set(NAMES):
        return  # there is nothing to compare yet
    figures = summary(runs, task, options.folder)
    print(table(figures))
    text = json.dumps(figures, indent=2) + "\n"
    (options.folder.parent / "baselines.json").write_text(text)
    if options.commit:
        (HERE / "baselines.json").write_text(text)
        picture(figures, PICTURE)


if __name__ == "__main__":
    main()
