"""The whole way in one call each: compress, export, verify, inspect.

Everything that writes goes through ``_ship``: pack, check in ONNX Runtime, and only then replace the output file.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.errors import ArgumentError, DataError, ModelError, OutputError, VerificationError
from sws_compress.files import write_atomically
from sws_compress.graph import rewrite
from sws_compress.graph.from_torch import from_torch
from sws_compress.graph.inspect import inspect_model
from sws_compress.graph.read import read_model
from sws_compress.graph.verify import (
    OutputDifference,
    check_runs,
    compare_outputs,
    decoded_weights,
    difference,
    session,
)
from sws_compress.graph.weights import Weight, find_weights
from sws_compress.mixture.cluster import cluster
from sws_compress.mixture.init import check_components
from sws_compress.mixture.snap import Palette
from sws_compress.packing import find_palettes, pack
from sws_compress.report.result import CompressionResult, Inspection, Verification

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.mixture.params import Mixture
    from sws_compress.train.loop import Distillation, FineTuning, Loss, Progress
    from sws_compress.train.schedule import Schedule
    from sws_compress.train.select import Selection, Sharing

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
AnyPath = str | os.PathLike[str]
OnProgress = Callable[[str, int, int], None]
"""Called as ``on_progress(description, done, total)``."""

OUTPUT_TOLERANCE = 1e-3
"""Largest relative difference between a runtime's and torch's outputs that rounding explains; weights must be equal."""

SMALLEST_WEIGHT = 256
"""Elements below which a tensor of an ONNX file is not clustered: its codebook would cost what it saves."""

EXAMPLE_ROWS = 8
"""Rows of the first training batch that serve as example inputs."""


def compress(
    model: nn.Module | AnyPath,
    output: AnyPath,
    *,
    components: int = 16,
    train: Iterable[Any] | None = None,
    loss: Loss | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    ratio: float = 20.0,
    epochs: int = 20,
    learning_rate: float = 7e-4,
    distillation: Distillation | None = None,
    schedule: Schedule | None = None,
    parameters: Selection | None = None,
    sharing: Sharing | None = None,
    state: AnyPath | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> CompressionResult:
    """Make ``model`` small and write it to ``output`` as an ONNX file of standard operators.

    model           a torch module, or the path of an ONNX file (clustered from its weights alone)
    components      distinct values per tensor, 2..256
    train           sized iterable of (inputs, targets) batches, or of inputs alone without ``loss``; None clusters the
                    weights without data, and everything down to ``schedule`` is unused
    loss            ``loss(outputs, targets)``, for example torch.nn.functional.cross_entropy
    evaluate        metric of a module, measured before and after
    example_inputs  positional arguments of one call, for the export; by default taken from ``train``
    ratio           how many times fewer bits the compressed parameters shall take (32 bits each before)
    distillation    the float network as a teacher; see ``train.loop.Distillation``
    parameters      which parameters, ``sharing`` how they share mixtures; see ``train.select``
    state           file that the training state is saved to after every epoch; a run that finds one goes on from it

    The module that is passed in stays as it is; the compressed one is in the result. Nothing is written unless the file
    passes: the ONNX checker and ONNX Runtime take it, every decoded weight equals the snapped one bit for bit, outputs
    agree on example inputs, and it is smaller than the plain model. Raises SwsError (see ``sws_compress.errors``).
    """
    target = _checked_output(output)
    started = time.perf_counter()
    if isinstance(model, str | os.PathLike):
        if train is not None or evaluate is not None or parameters is not None:
            raise ArgumentError(
                "train, evaluate and parameters must be left out for an ONNX file, got at least one: "
                "pass the torch module to train it"
            )
        return _compress_file(Path(model), target, components, seed, on_progress, started)
    from sws_compress.train.loop import FineTuning
    from sws_compress.train.schedule import Schedule
    from sws_compress.train.select import Sharing

    settings = FineTuning(
        components=components,
        ratio=ratio,
        epochs=epochs,
        learning_rate=learning_rate,
        distillation=distillation,
        schedule=schedule or Schedule(),
        parameters=parameters,
        sharing=sharing or Sharing.TENSOR,
        seed=seed,
    )
    examples = example_inputs if example_inputs is not None else _first_inputs(train)
    network, mixtures = _snapped_copy(model, settings, train, loss, target, state, on_progress)
    shipped = _ship_module(network, target, examples, dense_bytes=len(dense_onnx(model, examples)))
    return CompressionResult(
        **shipped,
        seconds=time.perf_counter() - started,
        before=None if evaluate is None else evaluate(model),
        after=None if evaluate is None else evaluate(network),
        network=network,
        mixtures=mixtures,
    )


def export(
    model: nn.Module, palettes: Mapping[str, Palette], output: AnyPath, *, example_inputs: tuple[Any, ...] | Any
) -> CompressionResult:
    """Write a snapped torch module, for example after ``SoftWeightSharing.snap``, as a small ONNX file.

    ``palettes`` by parameter name are what the parameters must hold, bit for bit (ModelError if one does not);
    ``example_inputs`` are the positional arguments of one call (a lone tensor needs no tuple). Checked and written as
    by ``compress``.
    """
    target = _checked_output(output)
    started = time.perf_counter()
    parameters = dict(model.named_parameters())
    for name, palette in palettes.items():
        if name not in parameters:
            raise ArgumentError(
                f"palettes must name parameters of the model, got {name!r}: pass the module it came from"
            )
        if not np.array_equal(parameters[name].detach().float().cpu().numpy(), palette.expand()):
            raise ModelError(f"{name} must hold the values of its palette, got others: export right after snap()")
    examples = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    shipped = _ship_module(model, target, examples, dense_bytes=len(dense_onnx(model, examples)))
    return CompressionResult(**shipped, seconds=time.perf_counter() - started, network=model)


def verify(
    original: AnyPath,
    compressed: AnyPath,
    *,
    inputs: AnyPath | Feeds | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Verification:
    """Compare the outputs of two models in ONNX Runtime on ``inputs`` (arrays by input name, or an .npz of them) or on
    random ones; ``tolerance`` is relative to the largest value of each output of the original."""
    paths = Path(original), Path(compressed)
    for path in paths:
        read_model(path)
    if not tolerance >= 0:
        raise ArgumentError(f"tolerance must be >= 0, got {tolerance}: 0.1 allows a tenth of the largest output")
    feeds = _load_feeds(inputs) if isinstance(inputs, str | os.PathLike) else inputs
    first, second = paths
    outputs = compare_outputs(first, second, feeds, seed=seed)
    return Verification(first, second, _bytes_on_disk(first), _bytes_on_disk(second), outputs, tolerance)


def inspect(path: AnyPath) -> Inspection:
    """What the model file at ``path`` is made of, compressed or not."""
    model = ir.external_data.load_to_model(read_model(path))
    return Inspection(Path(path), _bytes_on_disk(Path(path)), inspect_model(ir.to_proto(model).SerializeToString()))


def dense_onnx(model: nn.Module, example_inputs: tuple[Any, ...]) -> bytes:
    """The module as a plain ONNX file, without the exporter's traces: what compressed sizes are compared with."""
    exported = from_torch(model, example_inputs)
    rewrite.strip(exported)
    return rewrite.write(exported)


def run_model(model: AnyPath, feeds: Feeds) -> dict[str, Array]:
    """Outputs of an ONNX file by name, from ONNX Runtime on the CPU."""
    runtime = session(model)
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, dict(feeds)), strict=True))


# -- steps ------------------------------------------------------------------------------------------------------------


def _snapped_copy(
    model: nn.Module,
    settings: FineTuning,
    train: Iterable[Any] | None,
    loss: Loss | None,
    target: Path,
    state: AnyPath | None,
    on_progress: OnProgress | None,
) -> tuple[nn.Module, dict[str, Mixture]]:
    """A copy of ``model`` whose chosen parameters hold cluster means, and the mixtures they were drawn to."""
    from sws_compress.train.data_free import cluster_parameters
    from sws_compress.train.loop import fine_tune

    network = copy.deepcopy(model)
    if train is None:
        if loss is not None:
            raise ArgumentError("loss must come with train, got a loss alone: pass train= batches, or leave loss out")
        mixtures = cluster_parameters(
            network,
            components=settings.components,
            parameters=settings.parameters,
            sharing=settings.sharing,
            seed=settings.seed,
        )
        return network, mixtures
    tuned = fine_tune(
        network,
        train,
        settings,
        loss=loss,
        state_path=None if state is None else Path(state),
        rescue_path=target.with_name(target.name + ".state") if state is None else Path(state),
        on_progress=None if on_progress is None else _describing(on_progress),
    )
    return network, tuned.mixtures


def _describing(on_progress: OnProgress) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        size = "" if progress.ratio is None else f"  {progress.ratio:6.1f}x smaller"
        on_progress(
            f"{progress.stage.value:4} stage  loss {progress.loss:.3f}{size}", progress.step, progress.total_steps
        )

    return show


def _first_inputs(train: Iterable[Any] | None) -> tuple[Any, ...]:
    """A few rows of the first batch, as positional arguments of the module."""
    if train is None:
        raise ArgumentError("example_inputs must be given without train, got none: pass the arguments of one call")
    from sws_compress.train.batches import inputs_and_targets, no_batches

    for batch in train:
        return tuple(value[:EXAMPLE_ROWS] for value in inputs_and_targets(batch, labelled=False)[0])
    raise no_batches()


def _compress_file(
    source: Path, target: Path, components: int, seed: int, on_progress: OnProgress | None, started: float
) -> CompressionResult:
    """Data-free: every weight of an ONNX file clustered from its values."""
    check_components(components)
    if _same_file(source, target):
        raise OutputError(f"output {target} must not be the input: choose another path")
    model = ir.external_data.load_to_model(read_model(source))
    weights = find_weights(model, smallest=SMALLEST_WEIGHT)
    _refuse_nothing_to_do(source, weights)
    palettes: dict[str, Palette] = {}
    mixtures: dict[str, Mixture] = {}
    for i, weight in enumerate(weights):
        if on_progress is not None:
            on_progress(f"clustering {weight.name}", i, len(weights))
        found = cluster(weight.values, components, seed=seed)
        palettes[weight.name] = found.palette
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
    if on_progress is not None:
        on_progress("packing and checking", len(weights), len(weights))
    for name, palette in palettes.items():
        model.graph.initializers[name].const_value = ir.tensor(palette.expand(), name=name)
    snapped = rewrite.write(model)
    shipped = _ship(
        model,
        {**find_palettes(model), **palettes},
        target,
        dense_bytes=_bytes_on_disk(source),
        check=lambda packed: _largest(compare_outputs(snapped, packed, seed=seed)),
    )
    return CompressionResult(**shipped, seconds=time.perf_counter() - started, mixtures=mixtures)


def _refuse_nothing_to_do(source: Path, weights: Sequence[Weight]) -> None:
    if not weights:
        raise ModelError(
            f"model {source} must have a float32 weight of at least {SMALLEST_WEIGHT} elements, got none: "
            "it is small enough already, or its weights are no initialisers"
        )
    if all(np.all(weight.values == weight.values.flat[0]) for weight in weights):
        raise ModelError(
            f"{weights[0].name} must not be constant, got {weights[0].values.flat[0]:g} everywhere, and no other weight "
            "varies either: pass a trained model"
        )


def _ship_module(network: nn.Module, target: Path, examples: tuple[Any, ...], *, dense_bytes: int) -> dict[str, Any]:
    """Export a snapped module, pack whatever holds few distinct values, check against torch, write."""
    model = from_torch(network, examples)
    names = [value.name for value in model.graph.inputs]
    feeds, expected = call_module(network, examples)

    def check(packed: bytes) -> float:
        runtime = session(packed)
        outputs = [output.name for output in runtime.get_outputs()]
        actual = runtime.run(outputs, dict(zip(names, feeds, strict=True)))
        return _largest(tuple(map(difference, outputs, expected, actual)))

    return _ship(model, find_palettes(model), target, dense_bytes=dense_bytes, check=check)


def _ship(
    model: ir.Model,
    palettes: Mapping[str, Palette],
    target: Path,
    *,
    dense_bytes: int,
    check: Callable[[bytes], float],
) -> dict[str, Any]:
    """Pack, verify, write; returns fields of the CompressionResult.

    ``check`` gives the largest relative difference of the outputs of the packed model.
    """
    packed = pack(model, palettes)
    check_runs(packed.data)
    for name, values in decoded_weights(packed.data, [tensor.name for tensor in packed.tensors]).items():
        wanted = palettes[name].expand()
        if values.dtype != wanted.dtype or not np.array_equal(values.view(np.uint32), wanted.view(np.uint32)):
            raise VerificationError(f"{name} must decode to the snapped weights, got others: report this")
    largest = check(packed.data)
    if not largest <= OUTPUT_TOLERANCE:
        raise VerificationError(
            f"outputs must equal the snapped network's within {OUTPUT_TOLERANCE:g} of the largest, got {largest:.3g}: "
            "report this"
        )
    if len(packed.data) >= dense_bytes:
        raise VerificationError(
            f"compressed file must be smaller than the original, got {len(packed.data)} bytes for {dense_bytes}: "
            "the model holds hardly any weights; ship it as it is"
        )
    write_atomically(target, packed.data)
    return {
        "output": target,
        "dense_bytes": dense_bytes,
        "file_bytes": len(packed.data),
        "tensors": inspect_model(packed.data).rows,
        "largest_difference": largest,
    }


def _largest(differences: Sequence[OutputDifference]) -> float:
    return max((difference.largest_relative for difference in differences), default=0.0)


def call_module(network: nn.Module, examples: tuple[Any, ...]) -> tuple[list[Array], list[Array]]:
    """Inputs and outputs of one call in evaluation mode, flattened to arrays in the order of the exported graph."""
    import torch
    from torch.utils import _pytree as pytree

    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            outputs = network(*examples)
    finally:
        network.train(was_training)

    def arrays(tree: Any) -> list[Array]:
        return [leaf.detach().cpu().numpy() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    return arrays(examples), arrays(outputs)


def _checked_output(output: AnyPath) -> Path:
    """The path, if a file could be written there: found out before the work, not after it."""
    target = Path(output)
    if target.is_dir():
        raise OutputError(f"output {target} must be a file, got a directory: name the .onnx file to write")
    if not target.parent.is_dir():
        raise OutputError(f"output folder {target.parent} must exist, got none: create it first")
    if not os.access(target.parent, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise OutputError(f"output {target} must be writable, got a read-only place: choose another path")
    return target


def _same_file(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def _load_feeds(path: AnyPath) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"inputs {path} must be an .npz of arrays named like the model's inputs, got {type(error).__name__}: "
            "write it with numpy.savez"
        ) from error


def _bytes_on_disk(path: Path) -> int:
    """Size of a model file and of its external data."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    names = {str(entry.value) for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return sum(os.path.getsize(file) for file in (path, *(path.parent / name for name in names)))
