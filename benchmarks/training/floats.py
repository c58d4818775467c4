"""The float networks that are compressed: trained once, and kept by what they were made from."""

from __future__ import annotations

import hashlib
import inspect
import io
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.training import nets
from benchmarks.training.data import Batches, Rows, Splits
from benchmarks.training.problems import Problem
from sws_compress.files import write_atomically

WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class FloatNet:
    """A trained network, the key that it is kept by, and the seconds its training took."""

    network: nn.Module
    key: str
    seconds: float


def float_net(problem: Problem, splits: Splits, seed: int, folder: Path) -> FloatNet:
    """The float network of a problem and a seed, in evaluation mode: from ``folder``, or trained and put there."""
    path = folder / f"{float_key(problem, splits, seed)}.pt"
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = problem.build()
        if path.exists():
            saved = torch.load(path, weights_only=True)
        else:
            started = time.perf_counter()
            _train(network, problem, splits)
            saved = {"model": network.state_dict(), "seconds": time.perf_counter() - started}
            buffer = io.BytesIO()
            torch.save(saved, buffer)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, buffer.getvalue())
    network.load_state_dict(saved["model"])
    return FloatNet(network.eval(), path.stem, saved["seconds"])


def float_key(problem: Problem, splits: Splits, seed: int) -> str:
    """Digest of all that a float network depends on."""
    recipe = (problem.epochs, problem.learning_rate, problem.batch_size, problem.shift, problem.loss.__name__)
    sources = inspect.getsource(nets) + inspect.getsource(_train)
    parts = (problem.build.__name__, recipe, splits.digest(), seed, torch.__version__, sources)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _train(network: nn.Module, problem: Problem, splits: Splits) -> None:
    """AdamW with one cycle of its learning rate, in place."""
    batches = Batches(splits.training, problem.batch_size, problem.shift)
    optimizer = torch.optim.AdamW(network.parameters(), problem.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    steps = problem.epochs * len(batches)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, problem.learning_rate, total_steps=steps)
    network.train()
    for _ in range(problem.epochs):
        for inputs, targets in batches:
            optimizer.zero_grad()
            problem.loss(network(inputs), targets).backward()
            optimizer.step()
            cycle.step()


@torch.no_grad()
def measured(network: nn.Module, problem: Problem, rows: Rows) -> float:
    """The metric of a network in evaluation mode."""
    network.eval()
    return problem.metric(network(rows.inputs), rows)
