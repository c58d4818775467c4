"""Calibrated weights of a module, distilled: what can move while assignments stay comes closer to the float network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from sws_compress.errors import VerificationError
from sws_compress.messages import first_line
from sws_compress.onnx_io.analyse.draws import draws
from sws_compress.onnx_io.from_torch import evaluating
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.activations import Feeds, Trials
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.ort.session import Array
from sws_compress.pipelines.calibration_layers import Assigned
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import metric_of
from sws_compress.pipelines.source import Source, copied
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.write_back import Holding, held_as_they_are, holdings, written_back
from sws_compress.quantize.palette import Palette, half_rounded
from sws_compress.report.distances import percent_text
from sws_compress.thresholds import MAX_CODEBOOK

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.train.output_distillation import Distilled, Readout
    from sws_compress.train.tuned_values import TunedCodebook, TunedVector

LEFT_OUT = "distillation was left out: {}"
"""The note of a module that is not distilled, with the reason."""

NOT_KEPT = "distillation was not kept: {}"
"""The note of one whose distillation does not help, with the reason."""

KEPT = "distillation took the error on inputs that were held out from {} to {}, in {} steps"
"""The note of one that is distilled."""


@dataclass(frozen=True, eq=False)
class Tunable:
    """What moves in a copy of a module, by the names of initialisers."""

    network: nn.Module
    codebooks: Mapping[str, TunedCodebook]
    vectors: Mapping[str, TunedVector]

    def assigned(self, before: Assigned) -> Assigned:
        """The weights with what has moved, in the number formats that they had."""
        moved = {name: moved_palette(before.palettes[name], tuned) for name, tuned in self.codebooks.items()}
        vectors = {name: tuned.values for name, tuned in self.vectors.items()}
        return replace(before, palettes={**before.palettes, **moved}, biases={**before.biases, **vectors})


@dataclass(frozen=True, eq=False)
class Distillate:
    """Weights after a distillation, or as they were; their error on the inputs held out; and what was done."""

    assigned: Assigned
    error: float
    notes: tuple[str, ...]


def distilled(
    source: Source,
    assigned: Assigned,
    places: Collection[str],
    weights: Collection[str],
    feeds: tuple[Sequence[Feeds], Sequence[Feeds]],
    error: float,
    job: Job,
    work: Work,
) -> Distillate:
    """Distil a module for a few minutes; kept only where its outputs come closer on inputs that were held out.

    Parameters
    ----------
    source : Source
        The module, exported.
    assigned : Assigned
        Its weights.
    places : collection of str
        Those that may move.
    weights : collection of str
        All weights of the model: those that are not assigned stay as they are.
    feeds : pair of sequences of mapping of str to ndarray
        Inputs to learn from, and others to judge by.
    error : float
        Relative error of the scores on the latter, so far.
    job : Job
        Its seed, and a metric that may fall only so far.
    work : Work
        Told of every step.
    """
    reason = _why_not(source)
    if reason is not None:
        return Distillate(assigned, error, (LEFT_OUT.format(reason),))
    try:
        tuned, steps = _run(source, assigned, places, weights, feeds, job, work)
    except Exception as caught:  # whatever a module raises when it is asked for gradients
        return Distillate(assigned, error, (LEFT_OUT.format(first_line(caught)),))
    if not steps:
        return Distillate(assigned, error, (NOT_KEPT.format("no step brought the outputs closer"),))
    found = tuned.assigned(assigned)
    after = math.sqrt(Trials(source.model, tuple(found.values), feeds[1]).error(found.values))
    reason = "the outputs of the file do not come closer" if after >= error else _refused(source, found, job)
    if reason is not None:
        return Distillate(assigned, error, (NOT_KEPT.format(reason),))
    return Distillate(found, after, (KEPT.format(percent_text(error), percent_text(after), steps),))


def _why_not(source: Source) -> str | None:
    """Why a module cannot be distilled."""
    import torch

    assert source.module is not None
    if draws(source.model):
        return "the network draws random numbers"
    floats = {each.dtype for each in source.module.parameters() if each.is_floating_point()}
    return "parameters are not float32" if floats - {torch.float32} else None


def _refused(source: Source, found: Assigned, job: Job) -> str | None:
    """Why distilled weights are not taken, though their outputs are closer."""
    assert source.module is not None
    outputs = [] if source.feeds is None else outputs_in_runtime(
        to_bytes(with_values(source.model, found.values)), source.feeds
    )  # fmt: skip
    try:
        copy = written_back(source, source.module, found.values, outputs)
    except VerificationError:
        return "the module computes something else from what has moved"
    if job.goal is None or job.goal.max_drop is None or copy.missing:
        return None
    before, after = metric_of(source.module, job), metric_of(copy.network, job)
    kept = before is None or after is None or before - after <= job.goal.max_drop
    return None if kept else "the metric falls"


def _run(
    source: Source,
    assigned: Assigned,
    places: Collection[str],
    weights: Collection[str],
    feeds: tuple[Sequence[Feeds], Sequence[Feeds]],
    job: Job,
    work: Work,
) -> tuple[Tunable, int]:
    """A distilled copy, and the steps that it took; 0 if none helped or can be afforded."""
    from sws_compress.train import output_distillation as distillation

    assert source.module is not None
    tunable = tunable_copy(source, assigned, places, weights)
    network = tunable.network
    inputs, held_out = ([arguments_of(source, each) for each in part] for part in feeds)
    together = -(-distillation.ROWS_PER_STEP // max(rows_of(feeds[0][0]), 1))
    with evaluating(network), evaluating(source.module):
        steps = distillation.affordable_steps(network, inputs[0], together)
        if steps < distillation.FEWEST_STEPS:
            raise ValueError(f"it would take {distillation.MOST_OPERATIONS:.0e} operations for {steps} steps")
        units = sum(tensor.size for tensor in source.tensors()) / steps
        work.expect(steps * units)

        def told() -> None:
            work.did(units)
            work.doing("distilling")

        distillery = distillation.Distillery(
            network,
            source.module,
            [*tunable.codebooks.values(), *tunable.vectors.values()],
            readouts_of(source.model),
            inputs,
            held_out,
        )
        found: Distilled = distillery.run(steps, together, job.seed, told)
    return tunable, found.steps


def tunable_copy(source: Source, assigned: Assigned, places: Collection[str], weights: Collection[str]) -> Tunable:
    """A copy of the module with the assigned weights, and what may move in it.

    Weights that the module computes stay as they were, and so do weights in `places` alone.
    """
    from sws_compress.train.tuned_values import TunedVector

    assert source.module is not None
    network = copied(source.module)
    values = assigned.values
    held: dict[str, list[Holding]] = {}
    for holding in list(holdings(source, network, values)):
        known = held.setdefault(holding.origin, [])
        if all(each.tensor is not holding.tensor for each in known):
            known.append(holding)
    dense = _vectors_of(source, network, weights)
    for each in network.parameters():
        each.requires_grad_(False)
    for name, own in held.items():
        for holding in own:
            _write(holding.tensor, holding.of(values[name]))
    codebooks: dict[str, TunedCodebook] = {}
    for name in places:
        if name in held and (tuned := _tuned_codebook(assigned.palettes[name], held[name])) is not None:
            codebooks[name] = tuned
            for holding in held[name]:
                holding.tensor.requires_grad_(True)
    vectors = {name: TunedVector(tensor) for name, tensor in dense.items() if not _is_few(tensor)}
    for name in vectors:
        dense[name].requires_grad_(True)
    return Tunable(network, codebooks, vectors)


def _tuned_codebook(palette: Palette, held: Sequence[Holding]) -> TunedCodebook | None:
    """A palette as it lies in a module; None if nothing of it may move.

    Codebooks that a decoder computes stay even: only their scales move.
    """
    import torch

    from sws_compress.train.tuned_values import Members, TunedCodebook

    fixed = len(palette.codebook) > MAX_CODEBOOK
    if fixed and palette.scales is None:
        return None
    indices, slices = palette.indices.reshape(palette.shape), None
    if palette.scales is not None:
        numbers = np.arange(palette.scales.count, dtype=np.int32)
        sizes = [size if axis == palette.scales.axis else 1 for axis, size in enumerate(palette.shape)]
        slices = np.broadcast_to(numbers.reshape(sizes), palette.shape)

    def placed(holding: Holding, values: Array) -> torch.Tensor:
        found = np.ascontiguousarray(holding.of(values).astype(np.int32))
        return torch.from_numpy(found).to(holding.tensor.device)

    members = [
        Members(each.tensor, placed(each, indices), None if slices is None else placed(each, slices)) for each in held
    ]
    factors = None if palette.scales is None else palette.scales.values
    return TunedCodebook(palette.codebook.astype(np.float32), factors, members, fixed=fixed)


def _vectors_of(source: Source, network: nn.Module, weights: Collection[str]) -> dict[str, nn.Parameter]:
    """Parameters that are no weights and lie in the graph as they are, each for itself."""
    from sws_compress.train.select import plain_name

    assert source.module is not None
    own = held_as_they_are(source, source.module) - set(weights)
    bits = [_bits(each) for each in (*network.parameters(), *network.buffers())]
    named = ((plain_name(name), parameter) for name, parameter in network.named_parameters())
    return {name: parameter for name, parameter in named if name in own and bits.count(_bits(parameter)) == 1}


def _bits(tensor: Any) -> bytes:
    """A digest of the values of a tensor."""
    return hashlib.sha256(tensor.detach().cpu().numpy().tobytes()).digest()


def _is_few(tensor: Any) -> bool:
    """Whether a vector is all zeros, or small in a file for another reason, which would end if it moved."""
    values = tensor.detach().cpu().numpy().reshape(-1)
    return 2 * len(np.unique(values)) <= values.size or bool((half_rounded(values) == values).all())


def _write(tensor: Any, values: Array) -> None:
    import torch

    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)).view(tensor.shape))


def moved_palette(palette: Palette, tuned: TunedCodebook) -> Palette:
    """A palette with the entries and scales that it has now, rounded to float16 where they were."""
    found = palette
    codebook = tuned.codebook.cpu().numpy()
    if np.array_equal(half_rounded(palette.codebook.astype(np.float32)), palette.codebook):
        codebook = half_rounded(codebook)
    codebook = codebook.astype(palette.codebook.dtype)
    if np.isfinite(codebook).all() and (np.diff(codebook) > 0).all():
        found = replace(found, codebook=codebook)
    if palette.scales is not None and tuned.factors is not None:
        factors = tuned.factors.cpu().numpy()
        if np.array_equal(half_rounded(palette.scales.values), palette.scales.values):
            factors = half_rounded(factors)
        if np.isfinite(factors).all() and (factors > 0).all():
            found = replace(found, scales=replace(palette.scales, values=factors))
    return found


def arguments_of(source: Source, feeds: Feeds) -> tuple[Any, ...]:
    """The arguments of a call of the module with these inputs in place of the example's."""
    import torch
    from torch.utils import _pytree as pytree

    leaves, structure = pytree.tree_flatten(source.examples)
    values: Iterator[Array] = (feeds[str(value.name)] for value in source.model.graph.inputs)
    given = [
        torch.from_numpy(np.array(next(values))).to(leaf.device) if isinstance(leaf, torch.Tensor) else leaf
        for leaf in leaves
    ]
    arguments: tuple[Any, ...] = pytree.tree_unflatten(given, structure)
    return arguments


def rows_of(feeds: Feeds) -> int:
    """Rows of a set of inputs: the longest of their first axes."""
    return max((len(values) for values in feeds.values() if values.ndim), default=1)


def readouts_of(model: ir.Model) -> list[Readout]:
    """What comes last before each output."""
    from sws_compress.train.output_distillation import Readout

    nodes = [output.producer() for output in model.graph.outputs]
    return [
        Readout()
        if node is None or node.domain
        else Readout(node.op_type, node.attributes.get_int("axis", -1))
        for node in nodes
    ]  # fmt: skip
