"""What the mixture adds to a training step of a ResNet-50: on a GPU if there is one, else on the CPU.

    python -m benchmarks.micro.gpu_step [--rows 64] [--output out/micro/gpu_step.json]

The training step is the forward and backward pass of a ResNet-50 (convolutions, batch norms and classifier, with random
weights and images) and the step of the optimiser. The mixture adds ``prior.step``: pulls, straight-through steps and
codebook tuning in every step, and EM steps at their interval. The seconds of an EM step are divided by the steps
between two of them. The share is that of the whole step, mixture included. On the CPU seconds are processor time, which
other programs disturb less than elapsed time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.environment import environment
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import select_parameters
from sws_compress.train.stages.hard import HardStage
from sws_compress.train.stages.price import SizeFeedback
from sws_compress.train.stages.snapped import SnappedWeights
from sws_compress.train.stages.soft import SoftStage
from sws_compress.train.stages.tune import TuneStage
from sws_compress.train.targets import FixedSize

COMPONENTS = 16
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of the first
REPEATS = 3
GOAL_SHARE_OF_STEP = 0.03


class Block(nn.Module):
    """Bottleneck block: 1x1, 3x3 and 1x1 convolutions around a residual connection."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(images) + self.shortcut(images))


def resnet50() -> nn.Sequential:
    """ResNet-50: 25.6 million weights, of which 54 tensors are compressed."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    ]  # fmt: skip
    channels = 64
    for width, blocks, stride in STAGES:
        for i in range(blocks):
            layers.append(Block(channels, width, stride if i == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def seconds_of(function: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Seconds of the fastest run: until the GPU is idle, or processor time of all threads on the CPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    best = float("inf")
    for _ in range(repeats):
        _wait(device)
        start = clock()
        function()
        _wait(device)
        best = min(best, clock() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(rows: int, seed: int) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    model = resnet50().to(device)
    images, classes = torch.randn(rows, 3, 224, 224, device=device), torch.randint(1000, (rows,), device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), classes).backward()
        optimizer.step()

    train()
    schedule = Schedule()
    groups = select_parameters(model)
    soft, strength = SoftStage(groups, COMPONENTS, schedule), schedule.strength[1]
    seconds = {"training": seconds_of(train, device, repeats=2)}
    soft.em_step(optimizer, schedule.floor[1] ** 2)  # compiles
    seconds["soft EM"] = seconds_of(lambda: soft.em_step(optimizer, schedule.floor[1] ** 2), device)
    soft.pull(optimizer, strength)
    seconds["soft step"] = seconds_of(lambda: soft.pull(optimizer, strength), device)
    elements = sum(group.elements for group in groups)
    weights = SnappedWeights.start(groups, soft.mixtures())
    hard = HardStage(weights, SizeFeedback(FixedSize(32 * elements / 20, schedule)), schedule)
    hard.begin(optimizer)
    seconds["hard EM"] = seconds_of(lambda: hard.update(optimizer, schedule.target_at), device)
    seconds["hard step"] = seconds_of(lambda: hard.step(optimizer, schedule.target_at), device)
    tune = TuneStage(weights, schedule)
    seconds["tune step"] = seconds_of(lambda: tune.step(optimizer, 1.0), device)
    per_step = {
        "soft": seconds["soft step"] + seconds["soft EM"] / schedule.soft_every,
        "hard": seconds["hard step"] + seconds["hard EM"] / schedule.hard_every,
        "tune": seconds["tune step"],
    }
    return {
        "benchmark": "mixture in a training step",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "rows": rows,
        "weights": elements,
        "tensors": len(groups),
        "components": COMPONENTS,
        "seconds": seconds,
        "seconds_per_step": per_step,
        "share_of_step": {stage: added / (added + seconds["training"]) for stage, added in per_step.items()},
        "goal": GOAL_SHARE_OF_STEP,
        "environment": environment(),
    }


def table_of(result: dict[str, Any]) -> Table:
    seconds = result["seconds"]
    table = Table(
        title=f"{result['device']}, {result['rows']} images: training step {seconds['training'] * 1e3:,.1f} ms"
        f"\n{result['weights']:,} weights in {result['tensors']} tensors, {result['components']} components"
    )
    for title in ("stage", "step, ms", "EM step, ms", "per step, ms", "share of the step"):
        table.add_column(title, justify="left" if title == "stage" else "right")
    for stage in ("soft", "hard", "tune"):
        em = f"{seconds[f'{stage} EM'] * 1e3:,.1f}" if f"{stage} EM" in seconds else ""
        added, share = result["seconds_per_step"][stage], result["share_of_step"][stage]
        table.add_row(stage, f"{seconds[f'{stage} step'] * 1e3:,.1f}", em, f"{added * 1e3:,.1f}", f"{share:.1%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="What the mixture adds to a training step of a ResNet-50.")
    parser.add_argument("--rows", type=int, default=64, help="images per step")
    parser.add_argument("--output", type=Path, default=Path("out/micro/gpu_step.json"), help="JSON file")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and images")
    arguments = parser.parse_args()
    result = measure(arguments.rows, arguments.seed)
    Console().print(table_of(result))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
