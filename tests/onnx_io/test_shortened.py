"""Exported graphs in fewer nodes compute the same on inputs of all sizes."""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.onnx_io.rewrite.axis_atoms import AxisAtoms
from sws_compress.onnx_io.rewrite.exported_graph import shortened
from sws_compress.onnx_io.rewrite.shorter_moves import shorten_moves
from sws_compress.onnx_io.rewrite.sizes_of_axes import ONE, Length, Shapes, constant_shape, product
from sws_compress.onnx_io.write.serialise import to_bytes

OPERATORS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Gather")


def answers(model: ir.Model, values: np.ndarray) -> list[np.ndarray]:
    """Outputs without the runtime's own rewriting, which changes roundings."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


class LastOf(nn.Module):
    """A recurrent layer whose last outputs are read."""

    def __init__(self, kind: type[nn.RNNBase], **settings) -> None:
        super().__init__()
        self.recurrent = kind(5, 6, batch_first=True, **settings)

    def forward(self, x):
        return self.recurrent(x)[0][:, -1]


class Stated(nn.Module):
    """A recurrent layer that begins with a state that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.state = nn.GRU(5, 6, batch_first=True), nn.Parameter(torch.ones(1, 1, 6))

    def forward(self, x):
        return self.recurrent(x, self.state.expand(1, x.shape[0], 6).contiguous())[0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("network", "nodes"),
    [
        (LastOf(nn.GRU), ["Transpose", "GRU", "Squeeze", "Gather"]),
        (LastOf(nn.LSTM, bidirectional=True), None),
        (LastOf(nn.GRU, num_layers=2), None),
        (Stated(), None),
        (Attention(), None),
    ],
    ids=["gru", "two directions", "two layers", "learned state", "attention"],
)
def test_layers_of_torch_in_fewer_nodes(network, nodes):
    torch.manual_seed(0)
    values = torch.randn(3, 4, 8 if isinstance(network, Attention) else 5)
    with torch.no_grad():
        wanted = network.eval()(values).numpy()
    model = from_torch(network, (values,))
    assert not {"Shape", "Expand", "CastLike"}.intersection(operators(model)) or isinstance(network, Stated)
    assert nodes is None or operators(model) == nodes
    for batch in (3, 1):
        (found,) = answers(model, values[:batch].numpy())
        np.testing.assert_allclose(found, wanted[:batch], atol=1e-5)


def chain(seed: int) -> tuple[ir.Model, tuple[int, ...]]:
    """A model with two chains of random moves that begin alike, and the shape of its input; the first axis is free."""
    draw = np.random.default_rng(seed)
    start = [6, *draw.choice([1, 2, 3, 4], size=draw.integers(1, 4)).tolist()]
    names, nodes, initializers = iter(f"v{number}" for number in range(100)), [], []

    def stored(numbers) -> str:
        initializers.append(onnx.numpy_helper.from_array(np.array(numbers, np.int64), f"c{len(initializers)}"))
        return initializers[-1].name

    def moved(name: str, shape: list[int]) -> tuple[str, list[int]]:
        kind, fresh = draw.choice(OPERATORS), next(names)
        attributes, inputs = {}, [name]
        if kind == "Transpose" and shape:
            order = draw.permutation(len(shape)).tolist()
            attributes, shape = {"perm": order}, [shape[axis] for axis in order]
        elif kind == "Unsqueeze":
            axis = int(draw.integers(0, len(shape) + 1))
            inputs, shape = [name, stored([axis])], [*shape[:axis], 1, *shape[axis:]]
        elif kind == "Squeeze" and 1 in shape:
            axis = shape.index(1)
            inputs, shape = [name, stored([axis])], [*shape[:axis], *shape[axis + 1 :]]
        elif (
            kind == "Gather" and len(shape) > 1 and (inner := [a for a in range(len(shape)) if shape[a] not in (1, 6)])
        ):
            axis = int(draw.choice(inner))
            inputs, attributes = [name, stored(int(draw.integers(0, shape[axis])))], {"axis": axis}
            shape = [*shape[:axis], *shape[axis + 1 :]]
        else:
            kind, rest = "Reshape", math.prod(shape)
            shape = []
            while rest > 1 and len(shape) < 3:
                shape.append(int(draw.choice([size for size in range(1, rest + 1) if rest % size == 0])))
                rest //= shape[-1]
            inputs, shape = [name, stored([*shape, -1])], [*shape, rest]
        nodes.append(onnx.helper.make_node(kind, inputs, [fresh], **attributes))
        return fresh, shape

    ends = []
    name, shape = "input", start
    for _ in range(3):
        name, shape = moved(name, shape)
    for _ in range(2):
        end, last = name, shape
        for _ in range(int(draw.integers(1, 5))):
            end, last = moved(end, last)
        output = f"output{len(ends)}"
        if draw.random() < 0.5:
            nodes.append(onnx.helper.make_node("Relu", [end], [output]))
        else:
            nodes[-1].output[0] = output
        ends.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None] * len(last)))
    entry = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, start)
    graph = onnx.helper.make_graph(nodes, "g", [entry], ends, initializers)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    return ir.from_proto(proto), tuple(start)


@pytest.mark.parametrize("seed", range(60))
def test_random_moves_put_every_element_where_it_was(seed):
    model, shape = chain(seed)
    values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    wanted = answers(model, values)
    found = [shortened(model.clone())]
    for through in (False, True):
        found.append(model.clone())
        shorten_moves(found[-1].graph, through_gathers=through)
    for each in found:
        for one, other in zip(answers(each, values), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(found[0].graph) <= len(model.graph)


def test_random_moves_do_get_shorter():
    models = [chain(seed)[0] for seed in range(60)]
    before, after = (sum(len(each.graph) for each in some) for some in (models, [shortened(m.clone()) for m in models]))
    assert after < 0.85 * before


def test_a_free_axis_is_kept_free():
    batch = Length.parsed("batch")
    assert Length.parsed("4*batch") == Length(4, ("batch",))
    assert Length.parsed("batch + 1") == Length(1, ("batch + 1",))
    assert Length.parsed("4*batch").over(Length(2)) == Length(2, ("batch",))
    assert Length.parsed("4*batch").over(Length(3)) is None
    assert product([batch, Length(2), batch]).over(batch) == Length(2, ("batch",))
    assert constant_shape((batch, Length(6)), (batch, Length(2), Length(3))) == [-1, 2, 3]
    other = Length.parsed("other")
    assert constant_shape((batch, other, Length(6)), (batch, other, Length(2), Length(3))) == [0, 0, 2, 3]
    assert constant_shape((batch, other, Length(6)), (other, batch, Length(6))) is None


def test_atoms_are_not_split_across_a_free_axis():
    model, _ = chain(0)
    atoms, shapes = AxisAtoms.of((Length(3), Length(1, ("batch",)), ONE)), Shapes(model.graph)
    assert atoms.shape == (Length(3), Length(1, ("batch",)), ONE)
    assert not atoms._regroup((Length(1, ("batch",)), Length(3)))
    assert shapes.of(None) is None


class Projected(nn.Module):
    """A product between two moves, with the axes of the first one."""

    def __init__(self, axes: tuple[int, int], *, bias: bool = True, read_twice: bool = False) -> None:
        super().__init__()
        self.axes, self.inner, self.read_twice = axes, nn.Linear(4, 4, bias=bias), read_twice

    def forward(self, x):
        product = self.inner(x.transpose(*self.axes))
        moved = torch.relu(product.reshape(*product.shape[:2], 2, 2).transpose(0, 1))
        return moved + product.sum() if self.read_twice else moved


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("axes", "read_twice", "transposes"),
    [((0, 1), False, 0), ((1, 2), False, 2), ((0, 1), True, 2)],
    ids=["rows", "columns", "read twice"],
)
def test_rows_of_products_are_put_in_order_afterwards(axes, read_twice, transposes, bias):
    torch.manual_seed(1)
    network, values = Projected(axes, bias=bias, read_twice=read_twice).eval(), torch.randn(3, 4, 4)
    model = from_torch(network, (values,))
    assert operators(model).count("Transpose") == transposes
    for batch in (3, 1):
        with torch.no_grad():
            wanted = network(values[:batch]).numpy()
        np.testing.assert_allclose(answers(model, values[:batch].numpy())[0], wanted, atol=1e-5)


class Rows(nn.Module):
    """A product of rows that get two axes afterwards, which may be swapped."""

    def __init__(self, *, bias_shape: tuple[int, ...] = (4,), order: tuple[int, ...] = (1, 0, 2)) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(bias_shape))
        self.order = order

    def forward(self, x):
        rows = torch.relu(x).permute(1, 0, 2).reshape(-1, 4)
        return torch.relu(torch.addmm(self.bias, rows, self.weight).reshape(5, -1, 4).permute(self.order))


@pytest.mark.parametrize(
    ("network", "transposes"),
    [(Rows(), 0), (Rows(order=(1, 2, 0)), 2), (Rows(order=(0, 2, 1)), 2)],
    ids=["swapped back", "moved on", "other axes"],
)
def test_rows_of_a_gemm_are_put_in_order_before(network, transposes):
    values = torch.randn(3, 5, 4)
    model = from_torch(network.eval(), (values,))
    assert operators(model).count("Transpose") == transposes
    for batch in (3, 1):
        with torch.no_grad():
            wanted = network(values[:batch]).numpy()
        np.testing.assert_allclose(answers(model, values[:batch].numpy())[0], wanted, atol=1e-5)


def test_a_bias_of_every_row_keeps_the_order_of_rows():
    model = from_torch(Rows(bias_shape=(15, 4)).eval(), (torch.randn(3, 5, 4),))
    assert operators(model).count("Transpose") == 2
