"""Scenarios that the processes of these tests run; each returns plain values."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard

from sws_compress.errors import SwsError
from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.palette import Palette
from sws_compress.train.checkpoint import load_checkpoint, save_checkpoint
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.ranks import ALONE, Ranks, local, lost_ranks_told
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.snapped import SnappedWeights
from sws_compress.train.stages.soft import SoftStage
from tests.ranks.spawned import STEPS, Network, Run, batch

HALFWAY = 30
"""Steps at which runs are saved and go on elsewhere: in the hard stage."""

_CPU = torch.device("cpu")

OPTIONS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"sharing": Sharing.MODEL, "parameters": None},
}


@dataclass(frozen=True)
class Outcome:
    """Results of one rank; ``weights`` and ``answers`` are those of the whole network after ``snap``."""

    coded_bits: list[float | None]
    mixtures: dict[str, Mixture]
    histograms: dict[str, WeightHistogram]
    palettes: dict[str, Palette]
    weights: dict[str, torch.Tensor]
    answers: torch.Tensor


def outcome(layout: str, kind: str, load: Path | None = None, save: Path | None = None) -> Outcome:
    """A whole run; it goes on from the checkpoint ``load``, or writes ``save`` halfway."""
    run = Run(layout, kind, **OPTIONS[kind])
    first = 0
    if load is not None:
        first = load_checkpoint(load, run.model, run.optimizer, run.prior)["step"]
    bits = []
    for step in range(first, STEPS):
        if step == HALFWAY and save is not None:
            save_checkpoint(save, run.model, run.optimizer, run.prior, step=step)
        run.train(range(step, step + 1))
        bits.append(run.prior.coded_bits)
    inputs = batch(0)[0]
    with torch.no_grad():
        run.model(inputs)  # whole weights of before the snap, which fully_shard would keep
        palettes = run.prior.snap()
        answers = run.model(inputs)
    weights = get_model_state_dict(run.model, options=StateDictOptions(full_state_dict=True))
    return Outcome(bits, run.prior.mixtures, run.prior.histograms(bins=8), palettes, weights, answers)


def outcomes(cases: list[tuple[Any, ...]]) -> list[Outcome]:
    """Several runs in the same processes, which take seconds to start."""
    return [outcome(*case) for case in cases]


def refusals() -> dict[str, str]:
    """Error messages for layouts and weights that are refused, by case; no rank may be left waiting."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    mesh = init_device_mesh("cpu", (size,))

    def message(model: nn.Module, **options: Any) -> str:
        try:
            SoftWeightSharing(model, torch.optim.SGD(model.parameters(), lr=0.1), **options)
        except SwsError as error:
            return str(error)
        return "accepted"

    said = {}
    columns = nn.Linear(20, 30, bias=False)
    fully_shard(columns, mesh=mesh, shard_placement_fn=lambda parameter: Shard(1))
    said["columns"] = message(columns)
    alone = Network()
    fully_shard(alone, mesh=mesh)
    said["alone"] = message(alone, ranks=ALONE)
    said["local"] = message(Network(), ranks=ALONE)
    said["flattened"] = message(FullyShardedDataParallel(Network(), use_orig_params=True, device_id=_CPU))
    said["inside"] = message(nn.Sequential(FullyShardedDataParallel(Network(), device_id=_CPU)), ranks=ALONE)
    said["other names"] = message(Network(), parameters=["0.weight"] if rank == 0 else ["2.weight", "4.weight"])
    said["other shapes"] = message(nn.Linear(30, 20 + rank))
    said["none"] = message(nn.Linear(30, 20 if rank == 0 else 2))
    broken = Network()
    fully_shard(broken, mesh=mesh)
    if rank == size - 1:
        local(broken[0].weight)[-1, 3] = torch.nan
    said["start"] = message(broken)
    run = Run("fsdp")
    run.train(range(3))
    if rank == 0:
        local(run.model[2].weight)[1, 3] = torch.inf
    try:
        run.prior.update()
    except SwsError as error:
        said["training"] = str(error)
    return said


def saved_by_callbacks(folder: Path) -> bool:
    """Call what trainers call for a checkpoint, in the hard stage; whether this rank has anything to write."""
    from sws_compress.integrations.lightning import SoftWeightSharingCallback as LightningCallback
    from sws_compress.integrations.transformers import SoftWeightSharingCallback as TransformersCallback

    run = Run("fsdp")
    run.train(range(HALFWAY))
    callback = TransformersCallback()
    callback.prior = run.prior
    arguments: Any = SimpleNamespace(save_only_model=False, output_dir=str(folder))
    state: Any = SimpleNamespace(is_world_process_zero=run.prior.ranks.rank == 0, global_step=HALFWAY)
    if state.is_world_process_zero:
        (folder / f"checkpoint-{HALFWAY}").mkdir()
    callback.on_save(arguments, state, None)
    other = LightningCallback()
    other.prior = run.prior
    saved = other.state_dict()
    run.train(range(HALFWAY, HALFWAY + 5))
    return bool(saved)


def replicated_shards() -> list[list[float]]:
    """Counts that every rank sees of a network sharded in pairs that are replicas of each other (HSDP)."""
    model = Network()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards")))
    ranks = Ranks.of()
    groups = select_parameters(model, ranks=ranks)
    weights = SnappedWeights.start(groups, SoftStage(groups, 16, Schedule(), ranks).mixtures(), ranks)
    weights.em_step()
    return [float(state.occupancy.sum()) for state in weights.states]


def killed(folder: Path, layout: str, at: int) -> str:
    """Error message of a rank after the last one was killed at a step; a checkpoint is written every ten steps."""
    run = Run(layout)
    path = folder / "run.pt"
    try:
        with lost_ranks_told(checkpoint=path):
            for step in range(STEPS):
                if step % 10 == 0:
                    save_checkpoint(path, run.model, run.optimizer, run.prior, step=step)
                if step == at and run.prior.ranks.rank == run.prior.ranks.size - 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                run.train(range(step, step + 1))
    except SwsError as error:
        return str(error)
    return "finished"
