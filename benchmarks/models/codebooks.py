"""Data-free codebooks on real models: one per tensor, channel scales, groups of channels, vectors.

    python -m benchmarks.models.codebooks --data FOLDER [--only NAME ...]

The first part compares merits in the weights: coded bits per weight plus half the log2 of the squared error
(``merit_bits``; one more bit halves the root mean square error). Merits are averaged over the weights of all tensors of
256 elements or more, relative to one codebook per tensor, so a form below 0 is better at equal bytes. Groups are 4 runs
of channels with a codebook each; no file has them. The second part makes files: bytes, score and error as in
``benchmarks.models``. Writes ``codebooks.json``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.models.__main__ import scored
from benchmarks.models.measure import session
from benchmarks.models.places import add_arguments
from benchmarks.models.tasks import task_of
from sws_compress.api import compress
from sws_compress.onnx_io.analyse.weights import Weight, find_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import Best, Granularity, PerChannel, PerTensor, Vectors
from sws_compress.quantize.rate_distortion import merit_bits
from sws_compress.requests import WeightsOnly

GROUPS = 4
FILES = (
    WeightsOnly(components=12),
    WeightsOnly(components=16),
    WeightsOnly(components=20),
    WeightsOnly(components=24),
    WeightsOnly(components=32),
    WeightsOnly(components=16, granularity=PerChannel()),
    WeightsOnly(components=16, granularity=Best()),
    WeightsOnly(components=256, granularity=Vectors(2)),
    WeightsOnly(components=256, granularity=Vectors(4)),
    WeightsOnly(components=128),
    WeightsOnly(components=256),
    WeightsOnly(components=256, granularity=PerChannel()),
    WeightsOnly(components=256, granularity=Best()),
)


def merit(weight: Weight, components: int, granularity: Granularity, groups: int = 1) -> float:
    """Merit of one tensor, or of its groups of channels together, each with its own codebook."""
    parts = np.array_split(weight.values, groups, weight.channel_axis)
    parts = [part for part in parts if part.size >= 16]
    found = [cluster(part, components, granularity, channel_axis=weight.channel_axis, seed=0).palette for part in parts]
    sizes = np.array([part.size for part in parts])
    errors = [
        float(np.square(palette.expand().astype(np.float64) - part).sum())
        for palette, part in zip(found, parts, strict=True)
    ]
    if groups == 1:
        return merit_bits(found[0], weight.values)
    bits = [palette.entropy_bits * palette.indices.size + 16 * palette.codebook.size for palette in found]
    return sum(bits) / sizes.sum() + float(np.log2(max(sum(errors) / sizes.sum(), 1e-300))) / 2


def merits(path: Path, components: int) -> dict[str, float]:
    weights = [weight for weight in find_weights(read_model(path), smallest=256) if weight.values.ndim > 1]
    forms: dict[str, tuple[Granularity, int]] = {
        "channel": (PerChannel(), 1),
        "auto": (Best(), 1),
        f"{GROUPS} groups": (PerTensor(), GROUPS),
    }
    total = sum(weight.size for weight in weights)
    base = [merit(weight, components, PerTensor()) for weight in weights]
    return {
        name: sum(
            weight.size * (merit(weight, components, granularity, groups) - one)
            for weight, one in zip(weights, base, strict=True)
        )
        / total
        for name, (granularity, groups) in forms.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these models")
    parser.add_argument("--files-only", action="store_true", help="skip the merits in the weights")
    parser.add_argument("--output", type=Path, help="JSON file (default: codebooks.json in the folder)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    made = arguments.folder / "made"
    made.mkdir(exist_ok=True)
    for path in sorted(arguments.folder.glob("*.onnx")):
        if arguments.only and path.stem not in arguments.only:
            continue
        for components in () if arguments.files_only else (16, 256):
            row: dict[str, Any] = {"model": path.stem, "components": components, **merits(path, components)}
            rows.append(row)
            print(row, flush=True)
        task = task_of(path.stem, arguments.data, arguments.folder)
        reference = task.answers(session(str(path)))
        for request in FILES:
            target = made / f"{path.stem}.codebooks.onnx"
            result = compress(path, target, request, example_inputs=task.latency_feeds)
            options = {"components": request.components, "granularity": repr(request.granularity)}
            row = {"model": path.stem, **options, "file_bytes": result.file_bytes}
            row |= scored(task, task.answers(session(str(target))), reference)
            rows.append(row)
            label = ", ".join(f"{name} {value}" for name, value in options.items())
            print(
                f"| {path.stem} | {label} | {row['file_bytes']:,} | {row['score_percent']:.2f} "
                f"| {row['error_percent']:.2f} |",
                flush=True,
            )
        report = {"environment": environment(), "rows": rows}
        (arguments.output or arguments.folder / "codebooks.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
