"""Torch modules as ordinary dense ONNX models, by torch's exporter that builds on ``torch.export``."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import warnings
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.errors import ModelError
from sws_compress.messages import first_line
from sws_compress.module_modes import evaluating
from sws_compress.onnx_io.rewrite.exported_graph import shortened

if TYPE_CHECKING:
    from torch import nn


EXPORTER_OPSET = 18
"""Opset that is exported by default: the one that torch's exporter writes without converting."""


FOLDED_BYTES = 1 << 31
"""Constants of up to so many bytes are folded: all that a protobuf file can hold."""


MAX_DISTINCT = 256
"""Values that a tensor may hold to be packed."""

_COMPUTED = "computed from a parameter"
"""Key of the mark of `is_computed` in a value's ``meta``."""

PACKED_SHARE = 1 / 8
"""Bytes of a packed weight, at 4 bits for each of its elements, as a share of its float32 bytes."""


def from_torch(
    model: nn.Module,
    example_inputs: tuple[Any, ...],
    *,
    opset: int = EXPORTER_OPSET,
    snapped: Collection[str] = (),
) -> ir.Model:
    """Export a module in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        The module; a wrapper of ``torch.compile`` is taken off.
    example_inputs : tuple
        Positional arguments of one call. Their first dimension stays free if the module allows it and the example has
        at least two rows.
    opset : int
        Version of the default domain.
    snapped : collection of str
        Parameters and buffers that hold few values. What the module computes from them (weight standardisation, for
        one) is computed here, unless it makes many values of few: then it is left to the file.

    Returns
    -------
    ir.Model
        Parameters are initialisers under their torch names. Weights that the exporter puts together, such as the gates
        of recurrent layers, have the name of the first of them. Inputs are named as in ``forward``. The outputs are
        named ``output``, or ``output_0``, ``output_1``, ... if there are several; with ``_1``, ``_2``, ... behind it
        where an input or a parameter has that name.

    Raises
    ------
    ModelError
        If torch cannot export the module.

    Notes
    -----
    Constants are folded, but batch normalisation is kept apart from convolutions, which torch's own ``optimize=True``
    merges: merging multiplies each row of a weight by its own factor and destroys the codebook.
    """
    import torch

    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    try:
        with evaluating(model), _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                (*_in_order(example_inputs), {}),  # no keywords: the exporter would take a dict at the end for them
                dynamo=True,
                optimize=False,
                opset_version=opset,
                dynamic_shapes=_free_sizes(example_inputs),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds; all mean that this module does not go through it
        raise ModelError(
            f"{type(model).__name__} must be exportable by torch.onnx.export, got '{first_line(_root_cause(error))}': "
            "check example_inputs, or export it yourself and compress the .onnx file"
        ) from error
    assert program is not None
    for name, value in list(program.model.graph.initializers.items()):
        value.name = name.replace("_orig_mod.", "")  # parts may be wrapped too
    with _quiet():
        simplified = shortened(_simplified(program.model, snapped))
    _name_outputs(simplified.graph)
    return simplified


def _simplified(model: ir.Model, snapped: Collection[str]) -> ir.Model:
    """The model optimised (`_simplify`), with the arithmetic left in it that makes many values of few."""
    from onnxscript import optimizer

    optimizer.inline(model)
    origins = _origins(model)
    made_from = {name: made for name in snapped if (made := _computed_from(name, model.graph))}
    whole = model.clone() if made_from else model
    _simplify(model)
    if made_from:
        folded, parameters = model.graph.initializers, whole.graph.initializers
        spoiled = [
            made
            for name, made in made_from.items()
            if any(_spoils(folded[each], parameters[name]) for each in made if each in folded)
        ]
        if spoiled:
            model = whole
            _simplify(model, keep=frozenset().union(*spoiled))
    _name_after(model, origins)
    return model


def _computed_from(name: str, graph: ir.Graph) -> frozenset[str]:
    """Names of the values that are computed from constants alone, an initialiser among them."""
    if name not in graph.initializers:
        return frozenset()
    constant = {value for value in graph.initializers.values() if value.const_value is not None}
    made = {graph.initializers[name]}
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        if not constant.issuperset(inputs) or node.op_type.startswith("Random"):
            continue
        constant.update(node.outputs)
        if made.intersection(inputs):
            made.update(node.outputs)
    return frozenset(str(value.name) for value in made if value.producer() is not None)


def _spoils(result: ir.Value, parameter: ir.Value) -> bool:
    """Whether a computed constant takes more bytes than the packed ``parameter``, which holds few values.

    Twice as many distinct values cost a bit more for every element.
    """
    values, held = result.const_value, parameter.const_value
    if values is None or held is None or not values.dtype.is_floating_point():
        return False
    if values.size < PACKED_SHARE * held.size or (few := _distinct(held.numpy())) is None:
        return False
    many = _distinct(values.numpy())
    return many is None or many > 2 * few


def _distinct(values: npt.NDArray[Any]) -> int | None:
    """Number of distinct values; None above `MAX_DISTINCT`."""
    flat, count = values.reshape(-1), 0
    for part in (flat[: 16 * MAX_DISTINCT], flat):  # the beginning tells of most tensors
        if (count := np.unique(part).size) > MAX_DISTINCT:
            return None
    return count


def _simplify(model: ir.Model, keep: Collection[str] = ()) -> None:
    """Torch's default optimisation, in place, without the rewrite rules: one of them merges batch norms.

    The floating-point values named in ``keep`` are not computed.
    """
    from onnxscript import optimizer
    from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule

    def should_fold(node: ir.Node) -> bool | None:
        kept = any(value.name in keep and not _is_whole(value) for value in node.outputs)
        return False if kept else _should_fold(node)

    # Operators on constants put the gates of recurrent weights in order: they are folded, whatever their size.
    optimizer.fold_constants_ir(
        model, input_size_limit=FOLDED_BYTES, output_size_limit=FOLDED_BYTES, should_fold=should_fold
    )
    materialize_reshape_shape_rule.apply_to_model(model)  # no shape is computed at inference only to be kept
    _flatten(model.graph)
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
    )(model)
    _copy_returned_inputs(model.graph)
    ir.passes.Sequential(passes.OutputFixPass(), passes.NameFixPass())(model)


MERGING = ("Conv", "ConvTranspose", "Gemm")
"""Operators that take in a batch norm behind them."""


def with_merged_norms(model: ir.Model) -> ir.Model | None:
    """A copy in which layers take in the batch norms behind them, as in torch's default export; None without."""
    from onnxscript.rewriter.rules import common

    if not any(node.op_type == "BatchNormalization" for node in model.graph):
        return None
    merged = model.clone()
    for number, node in enumerate(merged.graph):
        if len(node.inputs) > 2 and (bias := node.inputs[2]) is not None and len(bias.uses()) > 1:
            own = ir.Value(name=f"{bias.name}.{number}", const_value=bias.const_value)  # the rules leave shared ones
            if node.op_type in MERGING and own.const_value is not None:
                merged.graph.register_initializer(own)
                node.replace_input_with(2, own)
    for kind in ("conv", "conv_transpose", "gemm"):
        getattr(common, f"fuse_batchnorm_into_{kind}_rule").apply_to_model(merged)
    passes.RemoveUnusedNodesPass()(merged)
    return merged


def _copy_returned_inputs(graph: ir.Graph) -> None:
    """Put an Identity between each input and the output that it is, in place; OutputFixPass would rename the input."""
    for i, value in enumerate(graph.outputs):
        if value.is_graph_input():
            copy = ir.Node("", "Identity", [value], num_outputs=1)
            copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
            graph.append(copy)
            graph.outputs[i] = copy.outputs[0]


def _name_outputs(graph: ir.Graph) -> None:
    """Name the outputs, in place; inputs and parameters keep their names, other values give way."""
    outputs = list(graph.outputs)
    taken = {value.name for value in (*graph.inputs, *graph.initializers.values()) if not value.is_graph_output()}
    chosen = []
    for i in range(len(outputs)):
        wanted = "output" if len(outputs) == 1 else f"output_{i}"
        numbered = (f"{wanted}_{number}" for number in itertools.count(1))
        chosen.append(next(name for name in itertools.chain([wanted], numbered) if name not in taken))
        taken.add(chosen[-1])
    others = [value for node in graph.all_nodes() for value in node.outputs if value not in outputs]
    taken.update(value.name for value in others)
    for value in others:
        if value.name in chosen:
            value.name = next(name for name in (f"{value.name}_{n}" for n in itertools.count(1)) if name not in taken)
            taken.add(value.name)
    for value, name in zip(outputs, chosen, strict=True):
        value.name = name


def _flatten(graph: ir.Graph) -> None:
    """Write a Reshape that flattens as a Flatten, in place: it needs no shape, which changes as channels are pruned."""
    for node in graph:
        if node.op_type != "Reshape" or node.domain != "":
            continue
        source, shape = node.inputs[:2]
        target = None if shape is None else ir.convenience.get_const_tensor(shape)
        if source is None or source.shape is None or target is None or target.size != 2:
            continue
        batch, width = target.numpy().tolist()
        sizes = source.shape.dims[1:]
        if batch != -1 or not sizes or not all(isinstance(size, int) for size in sizes) or math.prod(sizes) != width:
            continue
        flat = ir.Node("", "Flatten", [source], num_outputs=1)
        flat.outputs[0].shape, flat.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        ir.convenience.replace_nodes_and_values(graph, node, [node], [flat], node.outputs, flat.outputs)


def _is_whole(value: ir.Value) -> bool:
    """Whether a value is a tensor of whole numbers, such as a shape."""
    return value.dtype is not None and not value.dtype.is_floating_point()


def _should_fold(node: ir.Node) -> bool | None:
    """Whether to fold a node; None leaves it to the optimiser.

    The transposition of a weight that other nodes read as it is stays: the table of tied embeddings would be in the
    file twice.
    """
    source = node.inputs[0] if node.inputs else None
    if node.op_type == "Transpose" and source is not None and source.is_initializer():
        return False if any(user.op_type != "Transpose" for user, _ in source.uses()) else None
    return None


def _origins(model: ir.Model) -> dict[str, tuple[str, int]]:
    """The first parameter that goes into each value, and its number of elements, by the name of the value."""
    origins = {
        name: (name, value.const_value.size)
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    for node in model.graph:
        first = next((origins[name] for value in node.inputs if value and (name := value.name) in origins), None)
        if first is not None:
            origins.update({name: first for output in node.outputs if (name := output.name)})
    return origins


def _name_after(model: ir.Model, origins: dict[str, tuple[str, int]]) -> None:
    """Give weights that folding made of parameters the name of the first of them, in place."""
    for name, (origin, elements) in origins.items():
        value = model.graph.initializers.get(name)
        if value is None or value.const_value is None or origin in model.graph.initializers:
            continue
        if value.const_value.dtype.is_floating_point() and value.const_value.size >= elements:
            value.name, value.meta[_COMPUTED] = origin, True


def is_computed(value: ir.Value) -> bool:
    """Whether an initialiser of an exported module has the name of a parameter, but was made of it by folding."""
    return bool(value.meta.get(_COMPUTED))


def _free_sizes(value: Any) -> Any:
    """The dynamic shapes of arguments: first dimensions are free unless torch.export finds them fixed."""
    import torch

    if isinstance(value, torch.Tensor):
        return {0: torch.export.Dim.AUTO} if value.dim() else None
    if isinstance(value, list | tuple):
        return type(value)(_free_sizes(item) for item in value)
    if isinstance(value, dict):
        return {key: _free_sizes(item) for key, item in value.items()}
    return None


def _in_order(value: Any) -> Any:
    """Arguments with tensors in the order of their dimensions: the exporter cannot write strides that depend on sizes.

    Cut-outs of pictures whose channels come last are such tensors.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value.contiguous()
    if isinstance(value, list | tuple):
        return type(value)(_in_order(item) for item in value)
    if isinstance(value, dict):
        return {key: _in_order(item) for key, item in value.items()}
    return value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of the exporter: what is wrong comes as an exception."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _root_cause(error: BaseException) -> BaseException:
    """The error that the exporter has wrapped into paragraphs of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
