"""The model to compress, from an ONNX file or a torch module, checked before the work starts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx_ir as ir

from sws_compress.errors import ArgumentError, DataError, ModelError
from sws_compress.files import AnyPath
from sws_compress.messages import first_few, first_line, shown
from sws_compress.onnx_io.analyse.draws import draws
from sws_compress.onnx_io.analyse.index_ranges import index_ranges
from sws_compress.onnx_io.element_types import FLOAT_TYPES, INTEGER_TYPES
from sws_compress.onnx_io.from_torch import from_torch, with_merged_norms
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, refuse_overwriting
from sws_compress.onnx_io.read.shapes import correct_shapes
from sws_compress.onnx_io.write.dead_tensors import drop_dead
from sws_compress.onnx_io.write.serialise import metadata_bytes, plain_bytes
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.ort.conversion import check_conversion
from sws_compress.ort.fold_weights import fold_weights
from sws_compress.ort.session import out_of_bounds, reason_of
from sws_compress.ort.user_models import Feeds, feeds_with_answers, open_model
from sws_compress.pipelines.calls import arrays, outputs_of, positional, tried
from sws_compress.pipelines.job import Job
from sws_compress.terminal.progress_bar import LOGGER

if TYPE_CHECKING:
    import torch
    from torch import nn

Array = npt.NDArray[Any]


SINGLE_BYTES = 4
"""Bytes of a float32."""


CHECKPOINT_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""Endings of files that hold weights without a network."""

NOT_COMPARED = (
    "outputs were not compared, only weights: the model runs on no random inputs ({}); give inputs that fit (--inputs)"
)
"""The note of a model that no random inputs fit, with the reason."""

NOT_FINISHED = (
    "outputs were not compared, only weights: on random inputs the model had {}; give inputs that fit (--inputs), "
    "which may take longer"
)
"""The note of a model that takes too much time or memory on random inputs, or crashes on them."""

SAME_DRAWS = "the network draws random numbers: outputs were compared with the same draws in both"
"""The note of a model with nodes that draw."""

ANSWERS_VARY = "outputs were not compared, only weights: the network answers differently every time it runs"
"""The note of a model whose draws cannot be fixed."""


@dataclass(frozen=True, eq=False)
class Source:
    """A sound model, ready for any way.

    Parameters
    ----------
    model : ir.Model
        The dense model. Weights of a file with external data stay on disk until `in_memory`.
    name : str
        What errors call it.
    dense_bytes : int
        Bytes of the plain ONNX file, with its external data.
    feeds : mapping of str to ndarray
        Inputs by name on which the model runs; empty until `in_memory` for a file, and None
        if it runs on no random ones.
    outputs : sequence of ndarray
        What the original answers to them, the file in ONNX Runtime or the module in torch.
    path : Path or None
        The file the model was read from.
    module : nn.Module or None
        The module it was exported from.
    examples : tuple
        Positional arguments of one call of the module.
    notes : tuple of str
        What was done to the file's model, one line each.
    """

    model: ir.Model
    name: str
    dense_bytes: int
    feeds: Feeds | None
    outputs: Sequence[Array] = ()
    path: Path | None = None
    module: nn.Module | None = None
    examples: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [str(output.name) for output in self.model.graph.outputs]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all initialisers that may be packed; integers count as float32, which they are while decoded."""
        return sum(
            tensor.nbytes if tensor.dtype in FLOAT_TYPES else SINGLE_BYTES * tensor.size for tensor in self.tensors()
        )

    @property
    def elements(self) -> int:
        """Elements of all initialisers that may be packed."""
        return sum(tensor.size for tensor in self.tensors())

    def tensors(self) -> Iterator[ir.TensorProtocol]:
        """All initialisers of types that may be packed."""
        tensors = (value.const_value for value in self.model.graph.initializers.values())
        return (tensor for tensor in tensors if tensor is not None and tensor.dtype in FLOAT_TYPES + INTEGER_TYPES)


def open_source(model: nn.Module | AnyPath, job: Job) -> Source:
    """Open an ONNX file, or export a torch module.

    Parameters
    ----------
    model : str, path or nn.Module
        It is not changed.
    job : Job
        ``job.inputs`` are the arguments of one call of a module.

    Raises
    ------
    ArgumentError
        If ``model`` is neither, or if an argument does not fit its kind.
    ModelError
        If there is no sound model, or if torch cannot export the module.
    OutputError
        If the output would overwrite the model.
    """
    if isinstance(model, str | os.PathLike):
        refuse_checkpoint(model)
        return open_file(Path(model), job)
    return open_module(as_module(model), job)


# -- ONNX files -------------------------------------------------------------------------------------------------------


def refuse_checkpoint(path: AnyPath) -> None:
    """Raise ModelError if a file is one that torch or a hub keeps weights in, to judge by its name."""
    if Path(path).suffix.lower() in CHECKPOINT_ENDINGS and os.path.isfile(path):
        raise ModelError(
            f"model {os.fspath(path)} must be an ONNX file, got a checkpoint: build the module, load the weights into "
            "it, and pass the module"
        )


def open_file(path: Path, job: Job) -> Source:
    """Read the model at ``path``, without what no output of it depends on; wrong declared shapes are corrected.

    Raises
    ------
    ArgumentError
        If the inputs are neither arrays by name nor a path.
    ModelError
        If there is no sound model, or if its conversion from an older opset computes something else.
    DataError
        If the conversion is to be compared on inputs that do not fit.
    OutputError
        If the output would overwrite the model or its external data.
    """
    job.on_progress(f"reading {path.name}", 0, 0)
    model = read_model(path)
    LOGGER.info("%s: opset %d, %d initialisers", path, model.opset_imports[""], len(model.graph.initializers))
    refuse_overwriting(path, *job.written_files)
    dense_bytes = bytes_on_disk(path) - metadata_bytes(model)
    converted = check_conversion(path, model, named_inputs(job), seed=job.seed)
    notes = (*converted, *drop_dead(model).notes, *correct_shapes(model))
    return Source(model, str(path), dense_bytes, {}, path=path, notes=notes)


def named_inputs(job: Job) -> AnyPath | Feeds | None:
    """The caller's inputs for an ONNX file, arrays by name or a path. Raises ArgumentError if they are neither."""
    if job.inputs is None or isinstance(job.inputs, str | os.PathLike | Mapping):
        return job.inputs
    raise ArgumentError(
        f"example_inputs of an ONNX file must be arrays by input name, got {type(job.inputs).__name__}: "
        "pass a dict, or the path of an .npz file"
    )


def in_memory(source: Source, job: Job) -> Source:
    """The source with its weights loaded and computed (`fold_weights`), and inputs on which the model runs.

    Raises
    ------
    ModelError, DataError
        If ONNX Runtime does not load the model, or if it does not run on the inputs.
    """
    if source.path is None:
        return source
    inputs = named_inputs(job)
    job.on_progress("running the network", 0, 0)
    model = ir.external_data.load_to_model(source.model)
    original = open_model(source.path)
    feeds: Feeds | None
    notes: tuple[str, ...] = ()
    try:
        feeds, outputs = feeds_with_answers(
            original, source.path, inputs, seed=job.seed, ranges=index_ranges(source.model)
        )
    except DataError as error:
        if inputs is not None or job.strict:
            raise
        note = (NOT_FINISHED if out_of_bounds(error) else NOT_COMPARED).format(reason_of(error))
        feeds, outputs, notes = None, [], (note,)
    notes = (*computed_notes(fold_weights(model)), *notes)
    return replace(source, model=model, feeds=feeds, outputs=outputs, notes=(*source.notes, *notes))


def computed_notes(names: Sequence[str]) -> tuple[str, ...]:
    """The note on the weights that `fold_weights` has computed, if there are any."""
    if not names:
        return ()
    named = first_few([shown(name) for name in names], ", ")
    return (f"weights that the graph makes of constants are computed first: {named}",)


# -- torch modules ----------------------------------------------------------------------------------------------------


def as_module(model: object) -> nn.Module:
    """The torch module, without wrappers of parallel training; errors as `checked_module`, and for paths."""
    from sws_compress.train.readiness import checked_module

    if isinstance(model, str | os.PathLike):
        refuse_checkpoint(model)
        raise ArgumentError(
            f"model must be a torch module, got the file {os.fspath(model)}: pass the module it came from"
        )
    return checked_module(model)


def open_module(module: nn.Module, job: Job, snapped: Collection[str] = ()) -> Source:
    """Export ``module``, once.

    Parameters
    ----------
    module : nn.Module
        It is not changed.
    job : Job
        ``job.inputs`` are the arguments of one call (`positional`).
    snapped : collection of str
        Names of its parameters that hold few values.

    Raises
    ------
    ArgumentError
        If there are no example inputs.
    DataError
        If the module does not take the example inputs.
    ModelError
        If torch cannot export the module, if it holds bfloat16 tensors, or if it does not return tensors.
    """
    if job.inputs is None:
        raise ArgumentError("example_inputs must be given for a module, got none: pass the arguments of one call")
    _refuse_bfloat16(module)
    examples = positional(module, job.inputs)
    job.on_progress(f"exporting {type(module).__name__}", 0, 0)
    outputs = tried(module, examples)
    model = from_torch(module, examples, snapped=snapped)
    names = [str(value.name) for value in model.graph.inputs]
    feeds = dict(zip(names, arrays(examples), strict=True))
    plain = plain_bytes(model)
    if draws(model):
        outputs = outputs_in_runtime(plain, feeds)
    name = type(module).__name__
    LOGGER.info("%s: exported as %d bytes, %d initialisers", name, len(plain), len(model.graph.initializers))
    dense_bytes = len(plain_bytes(merged)) if (merged := with_merged_norms(model)) is not None else len(plain)
    return Source(model, name, dense_bytes, feeds, outputs, module=module, examples=examples)


def _refuse_bfloat16(module: nn.Module) -> None:
    """Raise ModelError if a tensor of the module is bfloat16, which NumPy and ONNX Runtime do not exchange."""
    import torch

    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dtype == torch.bfloat16:
            raise ModelError(f"{name} must not be bfloat16, got it: call model.float() or model.half() first")


def dense_onnx(module: nn.Module, example_inputs: Any) -> bytes:
    """The module as a plain ONNX file without the exporter's traces; compressed sizes are compared with it."""
    return plain_bytes(from_torch(module, positional(module, example_inputs)))


def answers_of(network: nn.Module, source: Source) -> list[Array]:
    """Outputs of a network with the graph of ``source.module`` on its example inputs.

    They are computed by torch, or by ONNX Runtime where the network draws random numbers: torch draws others.
    """
    if source.feeds is not None and draws(source.model):
        return outputs_in_runtime(plain_bytes(from_torch(network, source.examples)), source.feeds)
    return outputs_of(network, source.examples)


def draw_notes(model: ir.Model, *, answers_vary: bool) -> tuple[str, ...]:
    """What to say of the random numbers that a model draws, if its outputs were to be compared."""
    if answers_vary:
        return (ANSWERS_VARY,)
    return (SAME_DRAWS,) if draws(model) else ()


def copied(module: nn.Module) -> nn.Module:
    """A copy of the module; tensors that it keeps besides parameters are copied without their history.

    Raises
    ------
    ModelError
        If torch cannot copy it.
    """
    from sws_compress.train.copies import copied_module

    try:
        return copied_module(module)
    except Exception as error:  # whatever its own __deepcopy__ or a lock in it raises
        raise ModelError(
            f"{type(module).__name__} must be copied before it is compressed, got '{first_line(error)}': "
            "take out of it what cannot be copied, such as open files, locks and hooks"
        ) from error


def refuse_other_float(name: str, parameter: torch.Tensor) -> None:
    """Raise ModelError unless ``parameter`` is float32."""
    import torch

    if parameter.dtype != torch.float32:
        raise ModelError(f"{name} must be float32 to be packed, got {parameter.dtype}: call model.float() first")
