"""The page docs/benchmarks.md, from the JSON that scripts have written; no number in it is typed.

python -m benchmarks.summary.page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.models.opponents.pages import duel_table, sentences, size_table
from benchmarks.models.opponents.render import HERE as OPPONENTS
from benchmarks.models.opponents.render import reports
from benchmarks.summary.jobs import JOBS, ROOT
from benchmarks.training.table import defaults, load, markdown, ratios_table

Found = dict[str, Any]

PAGE = ROOT / "docs/benchmarks.md"
RECORDS = ROOT / "benchmarks/records"
TRAINING = ROOT / "benchmarks/training/results.json"

HEAD = """# Benchmarks

Written by `python -m benchmarks` from the JSON that scripts have written. [The list of
scripts](../benchmarks/README.md) says what each measures. Ratios within a run are what counts: times are those of one
machine.
"""

MODELS = """## Models people use

[Goals](../benchmarks/models/GOALS.md) has all tables and pictures, [every file](../benchmarks/models/OPPONENTS.md)
those of the other tools.
"""

BESIDE = """
The smallest file within a loss of the score, after `brotli -11` on both sides, beside the best of the other tools:
"""

TRAINED = """## Trained records

Errors are those of the test set. [Records](../benchmarks/records/README.md) says how each was made; the ratio is four
bytes per parameter over the file.
"""

EARLIER = """## Earlier methods

LeNet-300-100 on MNIST after equal training, the points that no other is better than: [the
comparison](../benchmarks/records/BASELINES.md).
"""

SMALL = """## Small networks, at the first try

Training with the defaults: [ten networks](../benchmarks/training/README.md), validation and test in percent.
"""


def write_page(page: Path = PAGE) -> Path:
    """Write the page, and return where it is."""
    page.write_text(text(), encoding="utf-8")
    return page


def text() -> str:
    """The page as Markdown."""
    found = reports(OPPONENTS / "results")
    parts = [HEAD, MODELS, *sentences(found), "", *size_table(found), BESIDE, *duel_table(found), ""]
    parts += [TRAINED, records_table(), EARLIER, earlier_table()]
    if TRAINING.exists() and defaults(rows := load(TRAINING), "ratio"):
        parts += [SMALL, ratios_table(rows)]
    kept = {job.name: json.loads(job.result.read_text()) for job in JOBS if job.result.exists()}
    parts += [part for name, made in SECTIONS.items() if name in kept for part in made(kept[name])]
    return "\n".join(parts).rstrip() + "\n"


def records_table() -> str:
    """All records, the smallest file of each network last."""
    told = {path.stem: json.loads(path.read_text()) for path in RECORDS.glob("*.json")}
    records = {name: each for name, each in told.items() if "file_ratio" in each}
    rows = sorted(records.items(), key=lambda item: (item[1]["net"], item[1]["file_ratio"]))
    return markdown(
        ("record", "bytes", "ratio", "float error", "error", "seed"),
        [
            (
                name,
                f"{each['file_bytes']:,}",
                f"{each['file_ratio']:.1f}x",
                f"{each['float_test_error_percent']:.2f} %",
                f"{each['test_error_percent']:.2f} %",
                str(each["options"]["seed"]),
            )
            for name, each in rows
        ],
    )


def earlier_table() -> str:
    """The front of each method, the largest files first."""
    points = json.loads((RECORDS / "baselines.json").read_text())["points"]
    front = sorted((point for point in points if point["on_front"]), key=lambda each: -each["file_bytes"])
    return markdown(
        ("method", "bytes", "ratio", "validation error", "test error"),
        [
            (
                point["method"],
                f"{point['file_bytes']:,}",
                f"{point['file_ratio']:.1f}x",
                f"{point['validation_error_percent']:.2f} %",
                f"{point['test_error_percent']:.2f} %",
            )
            for point in front
        ],
    )


# -- what jobs have measured ------------------------------------------------------------------------------------------


def clustering(found: Found) -> Iterator[str]:
    histogram, fitted, theirs = found["histogram"], found["fit"], found["sklearn"]
    seconds = fitted["histogram_seconds"] + fitted["em_seconds"]
    yield "## Clustering\n"
    yield (
        f"Histogram and EM of {found['components']} components. scikit-learn's EM is measured on "
        f"{theirs['weights']:,} weights and scaled linearly.\n"
    )
    yield markdown(
        ("what", "figure"),
        [
            (f"histogram of {histogram['weights']:,} weights, in copies", f"{histogram['histogram_per_memcpy']:.2f}"),
            (f"{found['iterations']} EM steps on {fitted['weights']:,} weights, with histogram", f"{seconds:.3f} s"),
            ("scikit-learn's time over it", f"{found['speedup_with_histogram']:,.0f}"),
            ("mean log-likelihood, ours less theirs", f"{found['log_likelihood_difference']:+.1e}"),
        ],
    )


def pull(found: Found) -> Iterator[str]:
    yield "## The pull of the mixture\n"
    yield f"One step on the weights beside one fused Adam step, {found['components']} components.\n"
    yield markdown(
        ("weights", "threads", "in Adam steps"),
        [(f"{pair['weights']:,}", str(pair["threads"]), f"{pair['per_adam_step']:.2f}") for pair in found["pairs"]],
    )


def encodings(found: Found) -> Iterator[str]:
    yield "## Encodings\n"
    yield "A million random symbols: bits of the payload per weight, and all other bytes of a file with one matrix.\n"
    rows = found["synthetic"]
    yield markdown(tuple(rows[0]), [tuple(_cell(value) for value in row.values()) for row in rows])


def loading(found: Found) -> Iterator[str]:
    yield "## Loading\n"
    yield f"{found['count']:,} weights in each encoding: the peak of memory in dense weights, and seconds.\n"
    yield markdown(
        ("data", "encoding", "seconds", "memory"),
        [
            (row["data"], row["encoding"], f"{row['seconds']:.2f}", f"{row['bytes'] / (4 * found['count']):.1f}")
            for row in found["rows"]
        ],
    )


def training_step(found: Found) -> Iterator[str]:
    yield "## Training\n"
    yield (
        f"What the mixture adds to a step of {found['network']} on {found['rows']} images, {found['threads']} threads, "
        f"{found['device']}, as a share of the step; the goal is at most {found['goal']:.0%}.\n"
    )
    yield markdown(("stage", "share"), [(stage, f"{share:.2%}") for stage, share in found["share_of_step"].items()])


SECTIONS: dict[str, Callable[[Found], Iterator[str]]] = {
    "clustering": clustering,
    "pull": pull,
    "training_step": training_step,
    "encodings": encodings,
    "loading": loading,
}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    print(write_page())
