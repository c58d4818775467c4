"""Small runs in one process, and in several over gloo, each with its share of every batch."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule

BATCH = 48
STEPS = 60
SCHEDULE = Schedule(soft_until=0.35, target_at=0.6, tune_from=0.75, soft_every=5, hard_every=4)
JOIN_SECONDS = 300


class Network(nn.Sequential):
    """Rows that two and four ranks do not divide: 37, 13, and 3, of which the fourth of four ranks gets none."""

    def __init__(self) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            super().__init__(nn.Linear(20, 37), nn.Tanh(), nn.Linear(37, 13), nn.Tanh(), nn.Linear(13, 3))


def batch(step: int) -> tuple[Tensor, Tensor]:
    """(BATCH, 20) lopsided inputs and (BATCH,) classes that depend on them; the same in every process."""
    generator = torch.Generator().manual_seed(1000 + step)
    inputs = torch.randn(BATCH, 20, generator=generator).exp() - 1
    return inputs, (inputs[:, :3] - 0.5 * inputs[:, 3:6]).argmax(1)


def wrapped(layout: str) -> nn.Module:
    """The network as it is, in DistributedDataParallel, or sharded: every linear layer, and the rest."""
    network = Network()
    if layout == "ddp":
        return DistributedDataParallel(network)
    if layout == "fsdp":
        for module in network:
            if isinstance(module, nn.Linear):
                fully_shard(module)
        fully_shard(network)
    return network


class Run:
    """Network, optimiser and prior of one process, and its share of every batch."""

    def __init__(self, layout: str, kind: str = "adam", **options: Any) -> None:
        self.model = wrapped(layout)
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(self.model.parameters(), lr=3e-3, eps=1e-4)
            if kind == "adam"
            else torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.5)
        )
        options = {"components": 6, "coded_ratio": 20, "total_steps": STEPS, "schedule": SCHEDULE} | options
        options["parameters"] = options.get("parameters", ["0.weight", "2.weight", "4.weight", "2.bias"])
        self.prior = SoftWeightSharing(self.model, self.optimizer, **options)

    def train(self, steps: range) -> None:
        rank, size = self.prior.ranks.rank, self.prior.ranks.size
        for step in steps:
            inputs, classes = batch(step)
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(inputs[rank::size]), classes[rank::size]).backward()
            self.optimizer.step()
            self.prior.step()


def on_ranks(count: int, work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """``work(*arguments)`` in ``count`` processes that form a gloo group; what each of them returned.

    A process that was killed returned nothing: None. An exception is returned.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_process, args=(rank, count, work, folder, arguments), daemon=True)
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_SECONDS)
        if process.is_alive():
            process.kill()
    results = []
    for rank in range(count):
        path = folder / f"result{rank}"
        results.append(torch.load(path, weights_only=False) if path.exists() else None)
        path.unlink(missing_ok=True)
    (folder / "store").unlink(missing_ok=True)
    return results


def _process(rank: int, count: int, work: Callable[..., Any], folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count, timeout=timedelta(seconds=120)
    )
    try:
        result = work(*arguments)
    except Exception as error:
        traceback.print_exc()
        result = error
    torch.save(result, folder / f"result{rank}")
