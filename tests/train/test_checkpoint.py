"""Checkpoints in one process: a run goes on exactly; files that are none are refused, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from sws_compress.errors import ArgumentError, OutputError
from sws_compress.train.checkpoint import load_checkpoint, save_checkpoint
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule, Stage
from tests.train.digits import Batches, trained

STEPS = 40
SCHEDULE = Schedule(soft_until=0.3, target_at=0.6, tune_from=0.8, soft_every=4, hard_every=3)


class Loop:
    """A network, its optimiser and its prior, and the same batches for every one of them."""

    def __init__(self, model: nn.Module | None = None, components: int = 8) -> None:
        self.model = model or trained()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.prior = SoftWeightSharing(
            self.model, self.optimizer, components=components, ratio=14, total_steps=STEPS, schedule=SCHEDULE
        )
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.batches = [batch for _ in range(STEPS // 10) for batch in Batches(400, 40)]

    def train(self, steps: range) -> None:
        for step in steps:
            pixels, labels = self.batches[step]
            functional.cross_entropy(self.model(pixels), labels).backward()
            self.optimizer.step()
            self.prior.step()
            self.optimizer.zero_grad()

    def save(self, path: Path, **progress: object) -> None:
        save_checkpoint(path, self.model, self.optimizer, self.prior, **progress)

    def load(self, path: Path) -> dict[str, object]:
        return load_checkpoint(path, self.model, self.optimizer, self.prior)


@pytest.mark.parametrize(
    ("step", "stage"), [(0, Stage.SOFT), (7, Stage.SOFT), (20, Stage.HARD), (36, Stage.TUNE), (40, Stage.TUNE)]
)
def test_a_run_goes_on_exactly(step: int, stage: Stage, tmp_path: Path) -> None:
    whole, half, rest = Loop(), Loop(), Loop(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    whole.train(range(STEPS))
    half.train(range(step))
    assert half.prior.stage is stage
    half.save(tmp_path / "run.pt", epoch=step, name="half")
    assert rest.load(tmp_path / "run.pt") == {"epoch": step, "name": "half"}
    rest.train(range(step, STEPS))
    assert rest.prior.steps == STEPS
    assert rest.prior.coded_bits == whole.prior.coded_bits
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, rest.model.get_parameter(name)), name


def test_files_that_are_no_checkpoint_of_the_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(ArgumentError, match=r"run.pt must be a checkpoint of this run, got FileNotFoundError"):
        Loop().load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ArgumentError, match=r"run.pt must be a checkpoint of this run, got \w+: delete it"):
        Loop().load(path)
    torch.save({"model": {}}, path)
    with pytest.raises(ArgumentError, match=r"run.pt must be a checkpoint of this run, got ValueError"):
        Loop().load(path)
    Loop().save(path)
    with pytest.raises(ArgumentError, match=r"run.pt cannot be resumed: components must be 8 as in the saved run"):
        Loop(components=9).load(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    loop = Loop()
    loop.save(path, epoch=1)
    kept = path.read_bytes()

    class Unpicklable:
        def __reduce__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        loop.save(path, epoch=Unpicklable())
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="must be"):
        loop.save(tmp_path / "nowhere" / "run.pt")
