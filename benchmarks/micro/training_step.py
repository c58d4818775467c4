"""What the mixture adds to a training step of a ResNet: on a GPU if there is one, else on the CPU.

    python -m benchmarks.micro.training_step [--network resnet50] [--rows 128] [--output out/micro/training_step.json]

The training step is the forward and backward pass (random weights and images) and the step of the optimiser. The
mixture adds ``prior.step``: pulls, straight-through steps and codebook tuning in every step, and EM steps at their
interval, whose time is divided by the steps between two of them. Training step, mixture's step and EM step are measured
in turns, as they follow each other in a run; times are medians. The share is that of the whole step, mixture included.
On the CPU seconds are processor time of one thread, which other programs disturb less than elapsed time.

ResNet-20 is the CIFAR network on 32 x 32 pixels (0.27 million weights), ResNet-50 the ImageNet network on 224 x 224
(25.6 million).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.environment import environment
from benchmarks.models.nets import CifarResNet
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
NETWORKS = {"resnet20": (lambda: CifarResNet(3), 32, 10), "resnet50": (lambda: resnet50(), 224, 1000)}
"""Constructor, pixels per side and classes."""

REPEATS = 5
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


def clock(device: torch.device) -> float:
    """Seconds: elapsed until the GPU is idle, or processor time on the CPU."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def in_turns(steps: dict[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Median seconds of each step; all are called in turns, and once before."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(REPEATS + 1):
        for name, step in steps.items():
            start = clock(device)
            step()
            if turn > 0:
                found[name].append(clock(device) - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def measure(network: str, rows: int, seed: int) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    construct, pixels, classes = NETWORKS[network]
    model = construct().to(device)
    images = torch.randn(rows, 3, pixels, pixels, device=device)
    labels = torch.randint(classes, (rows,), device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    train()
    schedule = Schedule()
    groups = select_parameters(model)
    elements = sum(group.elements for group in groups)
    soft = SoftStage(groups, COMPONENTS, schedule)
    soft_times = in_turns(
        {
            "training": train,
            "EM": lambda: soft.em_step(optimizer, schedule.floor[1] ** 2),
            "step": lambda: soft.pull(optimizer, schedule.strength[1]),
        },
        device,
    )
    weights = SnappedWeights.start(groups, soft.mixtures())
    hard = HardStage(weights, SizeFeedback(FixedSize(32 * elements / 20, schedule)), schedule)
    hard.begin(optimizer)
    hard_times = in_turns(
        {
            "training": train,
            "step": lambda: hard.step(optimizer, schedule.target_at),
            "EM": lambda: hard.update(optimizer, schedule.target_at),
        },
        device,
    )
    tune = TuneStage(weights, schedule)
    tune_times = in_turns({"training": train, "step": lambda: tune.step(optimizer, 1.0)}, device)
    seconds = {"soft": soft_times, "hard": hard_times, "tune": tune_times}
    every = {"soft": schedule.soft_every, "hard": schedule.hard_every, "tune": 1}
    per_step = {stage: times["step"] + times.get("EM", 0.0) / every[stage] for stage, times in seconds.items()}
    return {
        "benchmark": "mixture in a training step",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "network": network,
        "rows": rows,
        "weights": elements,
        "tensors": len(groups),
        "components": COMPONENTS,
        "seconds": seconds,
        "seconds_per_step": per_step,
        "share_of_step": {stage: added / (added + seconds[stage]["training"]) for stage, added in per_step.items()},
        "goal": GOAL_SHARE_OF_STEP,
        "environment": environment(),
    }


def table_of(result: dict[str, Any]) -> Table:
    table = Table(
        title=f"{result['network']}, {result['rows']} images, {result['device']}\n{result['weights']:,} weights in "
        f"{result['tensors']} tensors, {result['components']} components; goal: at most {result['goal']:.0%}"
    )
    for title in ("stage", "training, ms", "step, ms", "EM step, ms", "added per step, ms", "share of the step"):
        table.add_column(title, justify="left" if title == "stage" else "right")
    for stage, times in result["seconds"].items():
        em = f"{times['EM'] * 1e3:,.2f}" if "EM" in times else ""
        added, share = result["seconds_per_step"][stage], result["share_of_step"][stage]
        row = (f"{times['training'] * 1e3:,.1f}", f"{times['step'] * 1e3:,.2f}", em, f"{added * 1e3:,.2f}")
        table.add_row(stage, *row, f"{share:.2%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="What the mixture adds to a training step of a ResNet.")
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet20")
    parser.add_argument("--rows", type=int, default=128, help="images per step")
    parser.add_argument("--output", type=Path, default=Path("out/micro/training_step.json"), help="JSON file")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and images")
    arguments = parser.parse_args()
    result = measure(arguments.network, arguments.rows, arguments.seed)
    Console().print(table_of(result))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
