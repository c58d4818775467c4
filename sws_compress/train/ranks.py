"""The processes that train one network together: what they agree on, and which part of a tensor each of them holds.

A parameter is either whole on every rank (one process, DistributedDataParallel) or a DTensor sharded by rows
(``fully_shard``). Stages work on the part at hand, ``local``; what they need to know of the whole goes through the sums
and maxima of `Ranks`, the only place that communicates. Every weight is counted on exactly one rank: a row on the rank
that holds it, a replica on the first rank of its replicas. So all ranks read the same numbers, bit for bit, and their
mixtures cannot drift apart.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import distributed, nn

from sws_compress.errors import ArgumentError, TrainingError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Ranks:
    """``size`` processes of which this is number ``rank``; ``group`` is torch's, None for its default one.

    The methods ``sums``, ``greatest``, ``whole`` and ``check_agreed`` communicate: all ranks must call them, in the
    same order. With one rank they do nothing. They raise TrainingError when another rank is gone.
    """

    rank: int = 0
    size: int = 1
    group: distributed.ProcessGroup | None = None

    @classmethod
    def of(cls, group: distributed.ProcessGroup | None = None) -> Ranks:
        """The ranks of a process group, by default all of torch.distributed; one where that is not in use."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(group), distributed.get_world_size(group), group)

    def sums(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Each of ``tensors`` (float64, of equal shapes on all ranks) added up over the ranks; one all-reduce."""
        return self._reduced(tensors, distributed.ReduceOp.SUM) if self.size > 1 else list(tensors)

    def greatest(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The elementwise maximum over the ranks, likewise; NaN is not allowed."""
        return self._reduced(tensors, distributed.ReduceOp.MAX) if self.size > 1 else list(tensors)

    def counts(self, parameter: torch.Tensor) -> bool:
        """Whether what this rank holds of ``parameter`` is counted here: of several replicas, one is."""
        if not is_sharded(parameter):
            return self.rank == 0
        place = parameter.device_mesh.get_coordinate()
        assert place is not None  # a parameter on ranks without this one cannot be made here
        return all(
            coordinate == 0
            for coordinate, placement in zip(place, parameter.placements, strict=True)
            if placement.is_replicate()
        )

    def whole(self, shard: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
        """The tensor that is ``shard`` here and sharded as ``parameter`` is; of one that is not sharded, ``shard``.

        A sharded one is put together on the device, one tensor at a time, and returned in CPU memory of the first
        rank; the others get an empty tensor.
        """
        if not is_sharded(parameter):
            return shard
        with lost_ranks_told(self):
            gathered = _distributed(shard, parameter).full_tensor()
        return gathered.cpu() if self.rank == 0 else torch.empty(0, dtype=shard.dtype)

    def check_layout(self, name: str, parameter: torch.Tensor) -> None:
        """Raise ArgumentError unless ``parameter`` is whole, or sharded by rows over no more than these ranks."""
        if not is_sharded(parameter):
            return
        shards = [placement for placement in parameter.placements if not placement.is_replicate()]
        if len(shards) > 1 or any(not placement.is_shard(0) for placement in shards):
            raise ArgumentError(
                f"{name} must be sharded once, on dimension 0, got {parameter.placements}: "
                "use fully_shard without tensor parallelism and without shard_placement_fn"
            )
        if parameter.device_mesh.size() > self.size:
            raise ArgumentError(
                f"{name} must be whole here, got a shard on {parameter.device_mesh.size()} ranks: "
                "use SoftWeightSharing in a loop that all ranks run"
            )

    def check_agreed(self, groups: Sequence[tuple[str, dict[str, list[int]]]], device: torch.device) -> None:
        """Raise ArgumentError, on all ranks, unless all of them have the same ``groups``; one reduction.

        ``groups`` are labels with the names and shapes of their members; sums over the ranks need equal ones.
        """
        if self.size == 1:
            return
        shapes = [shape for _, members in groups for shape in members.values()]
        digest = hashlib.sha256(repr(groups).encode()).digest()
        parts = [int.from_bytes(digest[i : i + 4], "big") for i in range(0, len(digest), 4)]  # exact in float64
        own = torch.tensor([len(shapes), sum(map(math.prod, shapes)), *parts], dtype=torch.float64, device=device)
        most, least = self.greatest([own, -own])
        if not torch.equal(most, -least):
            tensors, weights = (f"{-least[i]:.0f} to {most[i]:.0f}" for i in (0, 1))
            raise ArgumentError(
                "compressed parameters must have the same names, shapes and groups on all ranks, "
                f"got {tensors} tensors of {weights} weights: "
                "build the same network and pass the same parameters= on every rank"
            )

    def _reduced(self, tensors: Sequence[torch.Tensor], operation: Any) -> list[torch.Tensor]:
        """One all-reduce of all ``tensors`` end to end."""
        if not tensors:
            return []
        device = tensors[0].device
        flat = torch.cat([tensor.detach().reshape(-1).to(device, torch.float64) for tensor in tensors])
        if flat.device.type == "cpu" and distributed.get_backend(self.group) == "nccl":
            flat = flat.cuda()  # of parameters that are offloaded to the CPU
        with lost_ranks_told(self):
            distributed.all_reduce(flat, op=operation, group=self.group)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape).to(tensor.device) for part, tensor in zip(parts, tensors, strict=True)]


ALONE = Ranks()


# -- the part of a tensor that is here ----------------------------------------------------------------------------


def is_sharded(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether ``tensor`` is a DTensor."""
    module = sys.modules.get("torch.distributed.tensor")  # slow to import; without it there are none
    return module is not None and isinstance(tensor, module.DTensor)


@torch.no_grad()
def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of ``tensor``, the same memory, detached: some of the rows, perhaps none, or all."""
    if is_sharded(tensor):
        return tensor.to_local().detach()
    return tensor.detach()


def rows_here(parameter: torch.Tensor) -> slice:
    """Which rows of ``parameter`` this rank holds: equal shares, the last ones smaller or empty."""
    if not is_sharded(parameter):
        return slice(None)
    for dimension, placement in enumerate(parameter.placements):
        if placement.is_shard(0):
            rows, mesh = parameter.shape[0], parameter.device_mesh
            share = math.ceil(rows / mesh.size(dimension))
            start = min(mesh.get_local_rank(dimension) * share, rows)
            return slice(start, min(start + share, rows))
    return slice(None)


def sharded_like(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """``whole``, sharded as ``parameter`` of the same shape is, from this rank's rows; no communication."""
    if not is_sharded(parameter):
        return whole
    return _distributed(whole[rows_here(parameter)].to(parameter.device), parameter)


def _distributed(shard: torch.Tensor, parameter: DTensor) -> DTensor:
    """The DTensor of which every rank holds its ``shard``, laid out as ``parameter`` is."""
    from torch.distributed.tensor import DTensor

    shape = parameter.shape
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return DTensor.from_local(
        shard.contiguous(), parameter.device_mesh, parameter.placements, shape=shape, stride=strides
    )


def undistributed(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel and ``torch.compile``, in any order.

    Its parameters have the names that they had before they were wrapped.
    """
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def refuse_flattened(model: nn.Module) -> None:
    """Raise ArgumentError if a part of ``model`` is a FullyShardedDataParallel: its shards have no rows."""
    if "torch.distributed.fsdp" not in sys.modules:
        return
    for name, part in model.named_modules():
        if isinstance(part, distributed.fsdp.FullyShardedDataParallel):
            raise ArgumentError(
                f"{name or 'model'} must keep its parameters as tensors of rows, got FullyShardedDataParallel, which "
                "cuts them anywhere: use torch.distributed.fsdp.fully_shard"
            )


def forget_gathered(model: nn.Module) -> None:
    """Let go of whole parameters that ``fully_shard`` keeps after a forward pass without a backward one.

    Before parameters are written outside a step: the next forward pass would use those old copies.
    """
    if "torch.distributed.fsdp" in sys.modules:
        for module in model.modules():
            if isinstance(module, distributed.fsdp.FSDPModule):
                module.reshard()


# -- lost ranks ---------------------------------------------------------------------------------------------------


@contextmanager
def lost_ranks_told(ranks: Ranks | None = None, checkpoint: object = None) -> Iterator[None]:
    """Turn torch's error when another process is gone into a TrainingError of one line; others pass.

    Put it around the training loop, since most communication is in ``backward``; ``checkpoint`` is the file that the
    line names.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, TrainingError) or not _is_of_communication(error):
            raise
        ranks = ranks or Ranks.of()
        where = "the last checkpoint" if checkpoint is None else f"the checkpoint {checkpoint}"
        raise TrainingError(
            f"rank {ranks.rank} of {ranks.size} must reach all others, got none from at least one of them "
            f"({_first_line(error)}): start again from {where}, with as many processes as there are"
        ) from error


def _is_of_communication(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))


def _first_line(error: RuntimeError) -> str:
    """What happened, without the place in torch's source in front of it and the advice behind."""
    line = str(error).partition("\n")[0]
    return line[line.find("] ") + 2 if line.startswith("[") else 0 :].partition(". ")[0][:120]
