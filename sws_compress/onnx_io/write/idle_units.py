"""Units that do nothing, taken out of the network: structured pruning that leaves what it computes as it is.

A *layer* is a Conv of one group, a Gemm, or a MatMul, with a weight of its own; its *units* are its output channels. A
*link* leads from a layer, through operators that treat every unit by itself, to the only layer that reads it. A unit
is idle if the reader's weights for it are all zero, or if it is zero for every input: its own weights and bias are
zero, and all operators of the link keep a zero. Taking a unit out may make others idle, before and after it: pruning
goes on until none is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_POOLS = frozenset(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"))
"""Operators that treat channels one by one if channels are axis 1, as in the output of a Conv."""


KEEPING_ZERO = {
    *("Abs", "Celu", "Elu", "Erf", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Relu", "Selu", "Softsign"),
    *("Tanh", "ThresholdedRelu"),
}
"""Elementwise operators that make 0 of 0."""


ELEMENTWISE = KEEPING_ZERO | {"Clip", "HardSigmoid", "Sigmoid", "Softplus"}
"""Operators whose outputs are functions of single elements of their first input."""


_BIAS_INPUT = 2
"""The number of the input of Conv and Gemm that is their bias."""


@dataclass(frozen=True)
class Pruning:
    """What was taken out of a network.

    Parameters
    ----------
    units : dict of str to (int, int)
        Units left and units before, by the name of the weight, for every layer that lost some.
    weights : int
        Number of weights that are gone, biases included.
    """

    units: dict[str, tuple[int, int]]
    weights: int

    @property
    def notes(self) -> tuple[str, ...]:
        """A line per layer for whoever asked for the file."""
        return tuple(
            f"{name} keeps {left} of {former} units: others do nothing" for name, (left, former) in self.units.items()
        )


@dataclass(frozen=True, eq=False)
class _Weight:
    """A weight with the axes of its outputs and inputs; its length is its number of units."""

    value: ir.Value
    outputs: int
    inputs: int

    def __len__(self) -> int:
        return int(_shape(self.value)[self.outputs])


@dataclass(frozen=True, eq=False)
class _Link:
    """Two layers and what lies between them.

    Parameters
    ----------
    layer, reader : _Weight
        The layer that makes the units, and the one that reads them.
    inputs_per_unit : int
        Inputs of the reader for every unit, side by side.
    biases : tuple of ir.Value
        What is added to the units, shape (units,) each.
    keeps_zero : bool
        Whether a unit that is zero reaches the reader as zero.
    values : tuple of ir.Value
        All values between the layers.
    """

    layer: _Weight
    reader: _Weight
    inputs_per_unit: int
    biases: tuple[ir.Value, ...]
    keeps_zero: bool
    values: tuple[ir.Value, ...]

    def live(self) -> npt.NDArray[np.bool_]:
        """Whether each unit does anything, shape (units,); at least one stays, because no dimension may be empty."""
        inputs = _used(self.reader.value, self.reader.inputs)
        read: npt.NDArray[np.bool_] = np.logical_or.reduce(inputs.reshape(-1, self.inputs_per_unit), axis=1)
        if self.keeps_zero:
            written = _used(self.layer.value, self.layer.outputs)
            for bias in self.biases:
                written = written | _used(bias, 0)
            read = read & written
        if not read.any():
            read[0] = True
        return read

    def keep(self, live: npt.NDArray[np.bool_]) -> None:
        """Take all units out but those that are ``live``, in place."""
        _take(self.layer.value, self.layer.outputs, live)
        _take(self.reader.value, self.reader.inputs, np.repeat(live, self.inputs_per_unit))
        for bias in self.biases:
            _take(bias, 0, live)
        for value in self.values:
            value.shape = None


def prune_units(model: ir.Model) -> Pruning:
    """Take idle units out of the main graph of a model, and biases that are all zero, in place.

    Weights become smaller and keep their names. Outputs stay equal, up to the order in which a runtime adds.

    Returns
    -------
    Pruning
        What is gone.

    Notes
    -----
    All weights with a link are read once for every layer that loses units.
    """
    size = _size(model.graph)
    _drop_zero_biases(model.graph)
    links = [link for node in model.graph for link in _links(node)]
    before = [len(link.layer) for link in links]
    changed = True
    while changed:
        changed = False
        for link in reversed(links):
            live = link.live()
            if not live.all():
                link.keep(live)
                changed = True
    after = [len(link.layer) for link in links]
    counts = zip(links, after, before, strict=True)
    units = {str(link.layer.value.name): (left, former) for link, left, former in counts if left < former}
    return Pruning(units, size - _size(model.graph))


def _size(graph: ir.Graph) -> int:
    """Number of elements of all initialisers."""
    return sum(value.const_value.size for value in graph.initializers.values() if value.const_value is not None)


def _drop_zero_biases(graph: ir.Graph) -> None:
    for node in graph:
        if node.domain == "" and node.op_type in ("Conv", "Gemm") and len(node.inputs) > _BIAS_INPUT:
            bias = node.inputs[_BIAS_INPUT]
            if bias is not None and _stored(bias) and not _array(bias).any():
                node.resize_inputs(_BIAS_INPUT)
                if not bias.uses():
                    del graph.initializers[str(bias.name)]


def _links(node: ir.Node) -> Iterator[_Link]:
    """The link that starts with ``node``, if there is one."""
    layer = _weight(node)
    if layer is None:
        return
    biases = list(node.inputs[_BIAS_INPUT:])
    spatial, keeps_zero, per_unit = node.op_type == "Conv", True, 1
    values = [node.outputs[0]]
    while (following := _only_reader(values[-1])) is not None:
        reader = _weight(following)
        if reader is not None and following.inputs[0] is values[-1]:
            if (following.op_type == "Conv") == spatial and all(map(_fits, biases, [len(layer)] * len(biases))):
                per_unit = _shape(reader.value)[reader.inputs] // len(layer)
                yield _Link(layer, reader, per_unit, tuple(filter(None, biases)), keeps_zero, tuple(values))
            return
        if following.domain != "" or len(following.outputs) != 1:
            return
        if following.op_type == "Add" and not spatial:
            biases += [value for value in following.inputs if value is not values[-1]]
        elif following.op_type == "Flatten" and spatial:
            if following.attributes.get_int("axis", 1) != 1:
                return
            spatial = False
        elif following.inputs[0] is values[-1] and following.op_type in ELEMENTWISE:
            keeps_zero = keeps_zero and following.op_type in KEEPING_ZERO
        elif following.op_type not in _POOLS or not spatial:
            return
        values.append(following.outputs[0])


def _weight(node: ir.Node) -> _Weight | None:
    """The weight of a layer; None if the node is no layer, or shares its weight."""
    if node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    value, attributes = node.inputs[1], node.attributes
    if value is None or not _own(value):
        return None
    if node.op_type == "Conv":
        return _Weight(value, 0, 1) if attributes.get_int("group", 1) == 1 else None
    if len(_shape(value)) != 2 or attributes.get_int("transA", 0) != 0:
        return None
    return _Weight(value, 1, 0) if attributes.get_int("transB", 0) == 0 else _Weight(value, 0, 1)


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a value, if it is the only one."""
    readers = list(value.uses())
    return readers[0].node if len(readers) == 1 and not value.is_graph_output() else None


def _fits(bias: ir.Value | None, units: int) -> bool:
    """Whether a bias has an element for every unit and no other reader; None stands for no bias."""
    return bias is None or (_own(bias) and _shape(bias) == (units,))


def _own(value: ir.Value) -> bool:
    """Whether a value is an initialiser with one reader."""
    return _stored(value) and len(value.uses()) == 1


def _stored(value: ir.Value) -> bool:
    """Whether a value is an initialiser that is neither input nor output of the model."""
    interface = value.is_graph_input() or value.is_graph_output()
    return value.const_value is not None and value.is_initializer() and not interface


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())


def _array(value: ir.Value) -> npt.NDArray[np.generic]:
    assert value.const_value is not None
    return value.const_value.numpy()


def _used(value: ir.Value, axis: int) -> npt.NDArray[np.bool_]:
    """Whether each slice along ``axis`` holds anything but zeros, shape (slices,)."""
    array = _array(value)
    used: npt.NDArray[np.bool_] = (array != 0).any(axis=tuple(other for other in range(array.ndim) if other != axis))
    return used


def _take(value: ir.Value, axis: int, kept: npt.NDArray[np.bool_]) -> None:
    """Leave only the slices along ``axis`` that are ``kept``, in place."""
    tensor = ir.Tensor(np.compress(kept, _array(value), axis=axis), name=value.name)
    value.const_value, value.shape = tensor, tensor.shape
