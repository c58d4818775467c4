"""Checkpoints in one process: a run goes on exactly; files that are none are refused, and none is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from sws_compress.errors import ArgumentError, OutputError
from sws_compress.train.checkpoint import load_checkpoint, save_checkpoint
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.saved_state import read_state, write_state
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
            self.model, self.optimizer, components=components, coded_ratio=14, total_steps=STEPS, schedule=SCHEDULE
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
    with pytest.raises(ArgumentError, match=r"must be a checkpoint of this run, got damaged or other bytes: delete it"):
        Loop().load(path)
    torch.save({"model": {}}, path)
    with pytest.raises(ArgumentError, match=r"run.pt must be a checkpoint of this run, got damaged or other bytes"):
        Loop().load(path)
    write_state(path, {"model": {}})
    with pytest.raises(ArgumentError, match=r"run.pt cannot be resumed: its parts must be those of a checkpoint"):
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


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    Loop().save(path)
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(ArgumentError, match="got damaged or other bytes: delete it"):
            Loop().load(path)


Change = Callable[[dict[str, Any]], None]


def _optimizer_entry(name: str, value: object) -> Change:
    return lambda state: state["optimizer"]["state"][0].update({name: value})


def _member(name: str, value: object) -> Change:
    return lambda state: state["prior"]["alternation"]["state"]["weights"]["groups"][0].update({name: value})


def _codebook_moment(value: torch.Tensor) -> Change:
    return lambda state: state["prior"]["alternation"]["state"]["optimizer"]["state"][0].update(exp_avg=value)


@pytest.mark.parametrize(
    ("steps", "change", "message"),
    [
        (9, _optimizer_entry("exp_avg", torch.zeros(3)), r"exp_avg of parameter 0 must be float32 .*, got .* \(3,\)"),
        (9, _optimizer_entry("exp_avg", torch.zeros(1).expand(32, 64)), "exp_avg .*, got one with shared or missing"),
        (9, _optimizer_entry("exp_avg_sq", 1.0), "exp_avg_sq of parameter 0 must be float32 .*, got float"),
        (9, _optimizer_entry("exp_avg", None), "exp_avg of parameter 0 must be float32 .*, got NoneType"),
        (9, lambda state: state["optimizer"]["param_groups"][0].update(amsgrad=True), "amsgrad must be False"),
        (9, _optimizer_entry("step", torch.zeros(2)), "step of parameter 0 must be"),
        (9, _optimizer_entry("step", torch.tensor(-1.0)), r"step of parameter 0 must be >= 0 as in the run, got -1"),
        (9, lambda state: state["optimizer"]["param_groups"][0].update(eps=2**70), "setting eps must be within 1e"),
        (9, lambda state: state["optimizer"]["state"][0].pop("exp_avg"), "must be step, exp_avg and exp_avg_sq"),
        (9, lambda state: state["optimizer"]["state"].update({99: {}}), "parameters of the optimiser must be those"),
        (9, lambda state: state["optimizer"]["param_groups"][0]["params"].reverse(), "parameters of the optimiser"),
        (9, lambda state: state["optimizer"]["param_groups"][0].update(betas="x"), "setting betas must be"),
        (9, lambda state: state["model"].update({"0.weight": torch.zeros(2)}), "network '0.weight' must be float32"),
        (9, lambda state: state["model"].pop("0.bias"), "names of the network must be those"),
        (9, lambda state: state["prior"]["alternation"].update(steps="x"), "steps must be a whole number"),
        (9, lambda state: state["prior"]["alternation"]["state"]["scales"].pop(), "groups must be 2 as in the run"),
        (20, _member("latent", [torch.zeros(3)]), "latent of '0.weight' must be float32"),
        (20, _member("latent", [torch.zeros(32, 64).double()]), r"latent .*, got float64 of shape"),
        (20, _member("sensitivity", [torch.zeros(64, 32)]), "sensitivity of '0.weight' must be"),
        (
            20,
            _member("assignment", [torch.full((32, 64), 8).byte()]),
            "assignment .* must be < 8, .*, got 8",
        ),
        (20, _member("occupancy", torch.zeros(3).double()), "occupancy of '0.weight' must be float64"),
        (
            36,
            lambda state: state["prior"]["alternation"]["state"]["optimizer"]["state"][0].update(
                exp_avg=torch.ones(99)
            ),
            "exp_avg of parameter 0 must be",
        ),
    ],
)
def test_contents_of_other_shapes_and_types_are_refused_before_anything_is_loaded(
    steps: int, change: Change, message: str, tmp_path: Path
) -> None:
    """The checksum of these files is right: fused Adam would write past a moment of three numbers."""
    path, loop = tmp_path / "run.pt", Loop()
    loop.train(range(steps))
    loop.save(path)
    state = read_state(path)
    change(state)
    write_state(path, state)
    fresh = Loop()
    before = copy.deepcopy(fresh.model.state_dict())
    with pytest.raises(ArgumentError, match=rf"run.pt cannot be resumed: .*{message}"):
        fresh.load(path)
    assert fresh.prior.steps == 0
    assert not fresh.optimizer.state
    assert all(torch.equal(value, before[name]) for name, value in fresh.model.state_dict().items())
