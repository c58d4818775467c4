"""Units that do nothing, taken out of the network: structured pruning that leaves what it computes as it is.

A *layer* is a Conv of one group, a Gemm, or a MatMul, with a weight of its own; its *units* are its output channels. A
*link* leads from a layer, through operators that treat every unit by itself, to the only layer that reads it. A unit
is idle if the reader's weights for it are all zero, or if it is zero for every input: its own weights and bias are, and
all operators of the link keep a zero. Where units go others become idle, backwards and forwards, until none is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_POOLS = frozenset(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"))
"""Operators that treat channels one by one if those are axis 1, as a Conv makes them."""


_KEEP_ZERO = {
    *("Abs", "Celu", "Elu", "Erf", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Relu", "Selu", "Softsign"),
    *("Tanh", "ThresholdedRelu"),
}


_ELEMENTWISE = _KEEP_ZERO | {"Clip", "HardSigmoid", "Sigmoid", "Softplus"}
"""Operators whose output is a function of each element of their first input."""


_BIAS = 2
"""Which input of Conv and Gemm it is."""


@dataclass(frozen=True)
class Pruning:
    """Left and former units of every layer that lost some, by the name of its weight; how many weights went."""

    units: dict[str, tuple[int, int]]
    weights: int

    @property
    def notes(self) -> tuple[str, ...]:
        """For its user, a line a layer."""
        return tuple(
            f"{name} keeps {left} of {former} units: others do nothing" for name, (left, former) in self.units.items()
        )


@dataclass(frozen=True, eq=False)
class _Weight:
    """A weight with the axes of its outputs and inputs."""

    value: ir.Value
    outputs: int
    inputs: int

    def __len__(self) -> int:
        return int(_shape(self.value)[self.outputs])


@dataclass(frozen=True, eq=False)
class _Link:
    """Two layers, and the biases, none or more, that are added to the units between them.

    The reader has ``inputs_per_unit`` inputs, side by side, for every unit. ``values``: all that hold the units.
    """

    layer: _Weight
    reader: _Weight
    inputs_per_unit: int
    biases: tuple[ir.Value, ...]
    keeps_zero: bool
    values: tuple[ir.Value, ...]

    def live(self) -> npt.NDArray[np.bool_]:
        """Which units do anything; at least one, for no dimension may be empty."""
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
        """Take all but the ``live`` units out."""
        _take(self.layer.value, self.layer.outputs, live)
        _take(self.reader.value, self.reader.inputs, np.repeat(live, self.inputs_per_unit))
        for bias in self.biases:
            _take(bias, 0, live)
        for value in self.values:
            value.shape = None


def prune_units(model: ir.Model) -> Pruning:
    """Take idle units out of ``model``, and biases that are all zero, in place.

    Weights become smaller and keep their names. Outputs stay equal up to the order in which a runtime adds. Only the
    main graph is looked at. Takes one pass over the weights that have a link for every layer that loses units.
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
    return sum(value.const_value.size for value in graph.initializers.values() if value.const_value is not None)


def _drop_zero_biases(graph: ir.Graph) -> None:
    for node in graph:
        if node.domain == "" and node.op_type in ("Conv", "Gemm") and len(node.inputs) > _BIAS:
            bias = node.inputs[_BIAS]
            if bias is not None and _stored(bias) and not _array(bias).any():
                node.resize_inputs(_BIAS)
                if not bias.uses():
                    del graph.initializers[str(bias.name)]


def _links(node: ir.Node) -> Iterator[_Link]:
    """The link that starts with ``node``, if there is one."""
    layer = _weight(node)
    if layer is None:
        return
    biases = list(node.inputs[_BIAS:])
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
        elif following.inputs[0] is values[-1] and following.op_type in _ELEMENTWISE:
            keeps_zero = keeps_zero and following.op_type in _KEEP_ZERO
        elif following.op_type not in _POOLS or not spatial:
            return
        values.append(following.outputs[0])


def _weight(node: ir.Node) -> _Weight | None:
    """The weight of a layer; None of anything else, and where others use it too."""
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
    readers = list(value.uses())
    return readers[0].node if len(readers) == 1 and not value.is_graph_output() else None


def _fits(bias: ir.Value | None, units: int) -> bool:
    return bias is None or (_own(bias) and _shape(bias) == (units,))


def _own(value: ir.Value) -> bool:
    return _stored(value) and len(value.uses()) == 1


def _stored(value: ir.Value) -> bool:
    interface = value.is_graph_input() or value.is_graph_output()
    return value.const_value is not None and value.is_initializer() and not interface


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())


def _array(value: ir.Value) -> npt.NDArray[np.generic]:
    assert value.const_value is not None
    return value.const_value.numpy()


def _used(value: ir.Value, axis: int) -> npt.NDArray[np.bool_]:
    """Of every slice along ``axis``, whether it holds anything but zeros."""
    array = _array(value)
    used: npt.NDArray[np.bool_] = (array != 0).any(axis=tuple(other for other in range(array.ndim) if other != axis))
    return used


def _take(value: ir.Value, axis: int, kept: npt.NDArray[np.bool_]) -> None:
    tensor = ir.Tensor(np.compress(kept, _array(value), axis=axis), name=value.name)
    value.const_value, value.shape = tensor, tensor.shape
