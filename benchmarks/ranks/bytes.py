"""Bytes that ranks communicate for the mixture: counted on small networks, computed for 1 B and 70 B weights.

    python -m benchmarks.ranks.bytes [--output out/ranks/bytes.json]

Two gloo processes train two small networks through all stages, sharded by ``fully_shard`` and replicated. The script
counts every all-reduce of the prior with the bytes of its buffer. It ends with an error if the formula gives other
bytes. It then applies the formula to the matrices of typical transformers. Bytes are those of the buffers that a rank
contributes; a ring sends each buffer 2 (ranks - 1) / ranks times. For comparison, the table also shows the float32
gradients that the same ranks exchange in every training step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn

from benchmarks.environment import environment
from benchmarks.ranks.shapes import TRANSFORMERS
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.stages.hard import SENSITIVITY_EVERY
from sws_compress.train.stages.soft import BINS

COMPONENTS = 16
RANKS = 2
FLOAT64_BYTES = 8
NETWORKS = {"two layers": (24, 40, 16), "four layers": (32, 64, 48, 20, 30)}
STEPS = 60
SCHEDULE = Schedule(soft_until=0.3, target_at=0.5, tune_from=0.8, soft_every=6, hard_every=3)
KINDS = {
    "soft": "soft stage, EM step",
    "hard": "hard stage, EM step",
    "hard with sensitivities": "hard stage, every tenth EM step",
    "tune": "codebook tuning, training step",
}


def computed(matrices: list[tuple[int, int]], *, sharded: bool) -> dict[str, int]:
    """Bytes of each kind of step: range and histogram; counts and sums; column sums and energies; gradients."""
    groups = len(matrices)
    hard = 3 * COMPONENTS * groups
    columns = sum(columns for _, columns in matrices) if sharded else 0
    numbers = {
        "soft": (2 + 3 * BINS + 1) * groups,
        "hard": hard,
        "hard with sensitivities": hard + columns + groups,
        "tune": COMPONENTS * groups,
    }
    return {kind: FLOAT64_BYTES * count for kind, count in numbers.items()}


def process(rank: int, folder: Path) -> None:
    """Train every network in one process; the first process writes its counts."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    found = {
        name: {kind: sorted(sizes) for kind, sizes in counted(widths, sharded).items()}
        for name, widths, sharded in cases()
    }
    if rank == 0:
        (folder / "counted.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def cases() -> list[tuple[str, tuple[int, ...], bool]]:
    """Name, widths of the layers, and whether they are sharded."""
    return [
        (f"{name}, {'sharded' if sharded else 'replicated'}", widths, sharded)
        for name, widths in NETWORKS.items()
        for sharded in (True, False)
    ]


def counted(widths: tuple[int, ...], sharded: bool) -> dict[str, set[int]]:
    """Bytes that one rank passes to all-reduce in a step, by kind of step."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(before, after) for before, after in itertools.pairwise(widths)))
    if sharded:
        fully_shard(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    prior = SoftWeightSharing(
        model, optimizer, components=COMPONENTS, total_steps=STEPS, schedule=SCHEDULE, coded_ratio=6
    )
    found: dict[str, set[int]] = {kind: set() for kind in KINDS}
    em_steps = 0
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.randn(8, widths[0])).square().sum().backward()
        optimizer.step()
        stage, hard, tuning = prior.stage, prior.coded_bits is not None, prior.tuning
        size = reduced_bytes(prior.step)
        if hard != (prior.coded_bits is not None) or tuning != prior.tuning:
            em_steps = 2  # those of the step that enters the hard stage
            continue  # enters the hard or the tuning stage and looks for its price of a bit, once
        if not size:
            continue
        kind = stage.value
        if stage is Stage.HARD:
            kind = "hard with sensitivities" if em_steps % SENSITIVITY_EVERY == 0 else kind
            em_steps += 1
        found[kind].add(size)
    return found


def reduced_bytes(function: Callable[[], None]) -> int:
    """Bytes of all buffers that ``function`` passes to all-reduce."""
    reduce, sizes = distributed.all_reduce, []

    def counting(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        sizes.append(tensor.nbytes)
        return reduce(tensor, *arguments, **options)

    distributed.all_reduce = counting
    try:
        function()
    finally:
        distributed.all_reduce = reduce
    return sum(sizes)


def checked() -> dict[str, dict[str, int]]:
    """The counted bytes. Ends the script if they differ from the formula."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(process, (Path(folder),), nprocs=RANKS)
        found = json.loads((Path(folder) / "counted.json").read_text())
    wanted = {
        name: computed([(rows, columns) for columns, rows in itertools.pairwise(widths)], sharded=sharded)
        for name, widths, sharded in cases()
    }
    if found != {name: {kind: [size] for kind, size in sizes.items()} for name, sizes in wanted.items()}:
        raise SystemExit(f"counted bytes must equal the formula {wanted}, got {found}: one of them is wrong")
    return wanted


def run() -> dict[str, Any]:
    models = {
        name: {
            "weights": model.weights,
            "groups": len(model.matrices()),
            "gradient_bytes_per_training_step": 4 * model.weights,
            "sharded": computed(model.matrices(), sharded=True),
            "replicated": computed(model.matrices(), sharded=False),
        }
        for name, model in TRANSFORMERS.items()
    }
    return {
        "benchmark": "bytes communicated by the prior",
        "components": COMPONENTS,
        "bins": BINS,
        "seed": 0,
        "counted": checked(),
        "computed": models,
        "environment": environment(),
    }


def table_of(result: dict[str, Any]) -> Table:
    names = list(result["computed"])
    table = Table(title=f"MB communicated, {COMPONENTS} components, weights sharded")
    table.add_column("step")
    for name in names:
        model = result["computed"][name]
        table.add_column(f"{name}\n{model['weights'] / 1e9:.2f} G weights,\n{model['groups']} groups", justify="right")
    for kind, title in KINDS.items():
        table.add_row(title, *(f"{result['computed'][name]['sharded'][kind] / 1e6:,.2f}" for name in names))
    gradients = (f"{result['computed'][name]['gradient_bytes_per_training_step'] / 1e6:,.0f}" for name in names)
    table.add_row("gradients, every training step", *gradients)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes that ranks communicate for the mixture.")
    parser.add_argument("--output", type=Path, default=Path("out/ranks/bytes.json"), help="JSON file")
    arguments = parser.parse_args()
    result = run()
    Console().print(table_of(result))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
