"""The processes that train one network together: what they agree on, and which part of a tensor each of them holds.

A parameter is either whole on every rank (one process, DistributedDataParallel) or a DTensor sharded by rows
(``fully_shard``). Stages work on this rank's part (`local`). What they need to know of the whole goes through the sums
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
    """Processes that train together, and the place of this one among them.

    The methods `sums`, `greatest`, `whole` and `check_agreed` communicate: all ranks must call them, in the same order.
    With one rank they do nothing. They raise TrainingError if another rank is gone.

    Parameters
    ----------
    rank : int, default 0
        Number of this process.
    size : int, default 1
        Number of processes.
    group : torch.distributed.ProcessGroup, optional
        torch's group of them; None for its default group.
    """

    rank: int = 0
    size: int = 1
    group: distributed.ProcessGroup | None = None

    @classmethod
    def of(cls, group: distributed.ProcessGroup | None = None) -> Ranks:
        """Ranks of a process group, by default all of torch.distributed; a single one if that is not in use."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(group), distributed.get_world_size(group), group)

    def sums(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Sum of each tensor over the ranks; one all-reduce.

        Parameters
        ----------
        tensors : sequence of tensor
            Of equal shapes on all ranks.

        Returns
        -------
        list of tensor
            float64 where there are several ranks; the tensors themselves where there is one.
        """
        return self._reduced(tensors, distributed.ReduceOp.SUM) if self.size > 1 else list(tensors)

    def greatest(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Elementwise maximum of each tensor over the ranks, as for `sums`; NaN is not allowed."""
        return self._reduced(tensors, distributed.ReduceOp.MAX) if self.size > 1 else list(tensors)

    def counts(self, parameter: torch.Tensor) -> bool:
        """Whether statistics count this rank's part of ``parameter`` here; of several replicas one is counted."""
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
        """Gather a tensor that is sharded as ``parameter`` is.

        Parameters
        ----------
        shard : tensor
            This rank's part.
        parameter : tensor
            Tells the layout.

        Returns
        -------
        tensor
            ``shard`` itself if ``parameter`` is not sharded. Else the whole, in CPU memory of the first rank; the
            others get an empty tensor.
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
        """Check that all ranks compress the same parameters: sums over the ranks need equal shapes. One reduction.

        Parameters
        ----------
        groups : sequence of (str, dict)
            Label, and shapes of the members by name.
        device : torch.device
            Device to communicate from.

        Raises
        ------
        ArgumentError
            If ranks differ; on all of them.
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
        """Reduce all ``tensors`` end to end, in one all-reduce."""
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
"""One process, whether torch.distributed is in use or not."""


# -- the part of a tensor that is here ----------------------------------------------------------------------------


def is_sharded(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether ``tensor`` is a DTensor."""
    module = sys.modules.get("torch.distributed.tensor")  # slow to import; without it there are none
    return module is not None and isinstance(tensor, module.DTensor)


@torch.no_grad()
def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of ``tensor`` on this rank: all rows, some or none; the same memory, detached."""
    if is_sharded(tensor):
        return tensor.to_local().detach()
    return tensor.detach()


def rows_here(parameter: torch.Tensor) -> slice:
    """Rows of ``parameter`` that this rank holds: equal shares, the last ones smaller or empty."""
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
    """Shard ``whole`` as ``parameter`` of the same shape is, from this rank's rows; without communication."""
    if not is_sharded(parameter):
        return whole
    return _distributed(whole[rows_here(parameter)].to(parameter.device), parameter)


def _distributed(shard: torch.Tensor, parameter: DTensor) -> DTensor:
    """DTensor of every rank's ``shard``, laid out as ``parameter`` is."""
    from torch.distributed.tensor import DTensor

    shape = parameter.shape
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return DTensor.from_local(
        shard.contiguous(), parameter.device_mesh, parameter.placements, shape=shape, stride=strides
    )


def undistributed(model: nn.Module) -> nn.Module:
    """Module inside DistributedDataParallel, DataParallel and ``torch.compile``, in any order.

    Its parameters have the names that they had before it was wrapped.
    """
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def refuse_flattened(model: nn.Module) -> None:
    """Raise ArgumentError if a part of ``model`` is a FullyShardedDataParallel, whose shards are not rows."""
    if "torch.distributed.fsdp" not in sys.modules:
        return
    for name, part in model.named_modules():
        if isinstance(part, distributed.fsdp.FullyShardedDataParallel):
            raise ArgumentError(
                f"{name or 'model'} must keep its parameters as tensors of rows, got FullyShardedDataParallel, which "
                "cuts them anywhere: use torch.distributed.fsdp.fully_shard"
            )


def forget_gathered(model: nn.Module) -> None:
    """Drop whole parameters that ``fully_shard`` keeps after a forward pass without a backward pass.

    It must be called before parameters are written outside a step: the next forward pass would use the old copies.
    """
    if "torch.distributed.fsdp" in sys.modules:
        for module in model.modules():
            if isinstance(module, distributed.fsdp.FSDPModule):
                module.reshard()


# -- lost ranks ---------------------------------------------------------------------------------------------------


@contextmanager
def lost_ranks_told(ranks: Ranks | None = None, checkpoint: object = None) -> Iterator[None]:
    """Context that tells of a lost process in one line.

    It turns the error that torch raises when another process is gone into a TrainingError; other errors pass. Put it
    around the whole training loop, because most communication happens in ``backward``.

    Parameters
    ----------
    ranks : Ranks, optional
        The processes that train together. Default: all of torch.distributed.
    checkpoint : path, optional
        File that the message names, to start again from.

    Raises
    ------
    TrainingError
        If another process is gone.

    Examples
    --------
    >>> with lost_ranks_told(checkpoint="run.pt"):
    ...     raise RuntimeError("[gloo/tcp.cc:1] Connection closed by peer. Retry.")
    Traceback (most recent call last):
    ...
    sws_compress.errors.TrainingError: rank 0 of 1 must reach all others, got none from at least one of them ...
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
    """What happened: the first line without the place in torch's source before it and the advice after it."""
    line = str(error).partition("\n")[0]
    return line[line.find("] ") + 2 if line.startswith("[") else 0 :].partition(". ")[0][:120]
