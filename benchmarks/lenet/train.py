"""Train the LeNet-300-100 that the demo compresses, from scratch and from one seed.

    python benchmarks/lenet/train.py

Adam trains on randomly shifted digits. The error on the last 5,000 training images chooses the epoch, and it chose the
defaults below. The test images are used once, after everything is decided. The script runs on one thread, so a seed
gives the same weights on the same machine. It writes two files beside the data: the weights (``lenet_300_100.npz``,
float32 arrays named as in ``state_dict``, nothing pickled) and the measurements (``lenet_300_100.json``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sws_compress.demo import DATA
from sws_compress.demo.lenet import LeNet300100
from sws_compress.demo.mnist import Split, load_mnist, shift_randomly


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings that decide the weights. ``weight_decay`` is the L2 coefficient; ``max_shift`` is in pixels."""

    seed: int = 0
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    max_shift: int = 1
    dropout: float = 0.0


def train_epoch(
    model: LeNet300100,
    data: Split,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    config: Config,
    generator: torch.Generator,
) -> None:
    model.train()
    for batch in torch.randperm(len(data.labels), generator=generator).split(config.batch_size):
        images = shift_randomly(data.images[batch], config.max_shift, generator)
        loss = cross_entropy(model(images.flatten(1)), data.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def error_and_loss(model: LeNet300100, data: Split) -> tuple[float, float]:
    """Error in percent, and mean cross-entropy in nats."""
    model.eval()
    logits = model(data.images.flatten(1))
    wrong = int((logits.argmax(1) != data.labels).sum())
    return 100 * wrong / len(data.labels), float(cross_entropy(logits, data.labels))


def train(config: Config, training: Split, validation: Split) -> tuple[LeNet300100, dict[str, float]]:
    """The network of the epoch with the least (validation error, validation loss), and the figures of that epoch."""
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    model = LeNet300100(config.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * -(-len(training.labels) // config.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, best_score = {}, (float("inf"), float("inf"))
    chosen: dict[str, float] = {}
    for epoch in range(1, config.epochs + 1):
        train_epoch(model, training, optimizer, scheduler, config, generator)
        score = error_and_loss(model, validation)
        if score < best_score:
            best_score, best = score, {name: value.clone() for name, value in model.state_dict().items()}
            chosen = {"epoch": epoch, "validation_error_percent": score[0], "validation_loss_nats": score[1]}
        print(f"epoch {epoch:3d}  validation error {score[0]:.2f} %  loss {score[1]:.4f}", flush=True)
    model.load_state_dict(best)
    return model, chosen


def parse_arguments() -> tuple[Config, Path, bool]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in asdict(Config()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--out", type=Path, default=DATA / "lenet_300_100.npz")
    parser.add_argument("--validate-only", action="store_true", help="write nothing and do not use the test images")
    arguments = vars(parser.parse_args())
    out, validate_only = arguments.pop("out"), arguments.pop("validate_only")
    return Config(**arguments), out, validate_only


def main() -> None:
    config, out, validate_only = parse_arguments()
    torch.set_num_threads(1)
    training, validation, test = load_mnist(DATA / "mnist.npz")
    started = time.perf_counter()
    model, chosen = train(config, training, validation)
    seconds = time.perf_counter() - started
    report = {**chosen, "seconds": round(seconds, 1), "config": asdict(config)}
    if validate_only:
        print(json.dumps(report))
        return
    report["test_error_percent"] = error_and_loss(model, test)[0]
    report["environment"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    np.savez_compressed(out, **{name: value.numpy() for name, value in model.state_dict().items()})
    report["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
