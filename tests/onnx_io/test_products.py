"""How weights multiply activations: rows times gathered inputs are what the operator computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sws_compress.onnx_io.analyse.layouts import Matrix
from sws_compress.onnx_io.analyse.products import products_of

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
ALL = 1 << 30


def model_of(
    operator: str, inputs: list[str], tensors: dict[str, Array], *, outputs: tuple[str, ...] = ("y",), **attributes: Any
) -> onnx.ModelProto:
    """A model of one node, whose inputs that are no tensors are those of the model."""
    node = helper.make_node(operator, inputs, list(outputs), **attributes)
    free = [name for name in inputs if name and name not in tensors]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in free],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs if name],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def computed(model: onnx.ModelProto, feeds: dict[str, Array], weight: str = "w") -> tuple[Array, Array]:
    """What the operator makes of the feeds, and rows times inputs, (n, groups, outputs)."""
    (product,) = products_of(ir.from_proto(model), weight)
    outputs = ReferenceEvaluator(model).run(None, feeds)
    names = [entry.name for entry in model.graph.output]
    values = {**feeds, **dict(zip(names, outputs, strict=True))}
    tensor = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == weight)
    rows = product.layout.rows(tensor)
    np.testing.assert_array_equal(product.layout.weight(rows, tensor.shape), tensor)
    inputs = product.layout.inputs(values[product.value], ALL, RANDOM)
    return outputs[0], np.einsum("god,ngd->ngo", rows, inputs)


def floats(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_matrix_products() -> None:
    output, found = computed(model_of("MatMul", ["x", "w"], {"w": floats(6, 4)}), {"x": floats(2, 3, 6)})
    close(found[:, 0], output.reshape(6, 4))


def test_weights_on_the_left() -> None:
    output, found = computed(model_of("MatMul", ["w", "x"], {"w": floats(4, 6)}), {"x": floats(2, 6, 3)})
    close(found[:, 0], np.swapaxes(output, 1, 2).reshape(6, 4))


@pytest.mark.parametrize("flipped", [0, 1])
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm(flipped: int, turned: int) -> None:
    weight, x = floats(4, 6) if flipped else floats(6, 4), floats(6, 3) if turned else floats(3, 6)
    output, found = computed(model_of("Gemm", ["x", "w"], {"w": weight}, transA=turned, transB=flipped), {"x": x})
    close(found[:, 0], output)


@pytest.mark.parametrize("flipped", [0, 1])
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_with_weights_on_the_left(flipped: int, turned: int) -> None:
    weight, x = floats(6, 4) if turned else floats(4, 6), floats(3, 6) if flipped else floats(6, 3)
    output, found = computed(model_of("Gemm", ["w", "x"], {"w": weight}, transA=turned, transB=flipped), {"x": x})
    close(found[:, 0], output.T)


@pytest.mark.parametrize("operator", ["FusedMatMul", "FusedGemm", "TransposeMatMul", "GemmFastGelu"])
def test_fused_products_lie_like_plain_ones(operator: str) -> None:
    model = model_of(operator, ["x", "w"], {"w": floats(4, 6)}, transB=1)
    model.graph.node[0].domain = "com.microsoft"
    (product,) = products_of(ir.from_proto(model), "w")
    assert product.layout == Matrix(by_output=True)
    model.graph.node[0].attribute.append(helper.make_attribute("transBatchA", 1))
    assert products_of(ir.from_proto(model), "w") == ()


def test_a_lone_vector_is_one_input() -> None:
    output, found = computed(model_of("MatMul", ["w", "x"], {"w": floats(4, 6)}), {"x": floats(6)})
    close(found[0, 0], output)


@pytest.mark.parametrize(
    ("shape", "image", "attributes"),
    [
        ((6, 4, 3, 3), (2, 4, 7, 8), {"pads": [1, 1, 1, 1]}),
        ((6, 4, 3, 2), (2, 4, 9, 8), {"pads": [2, 0, 1, 1], "strides": [2, 3], "dilations": [2, 1]}),
        ((6, 1, 3, 3), (2, 6, 5, 5), {"group": 6}),
        ((6, 2, 3, 3), (1, 4, 5, 5), {"group": 2, "auto_pad": "VALID"}),
        ((5, 3, 4), (2, 3, 11), {"strides": [2], "pads": [1, 2]}),
        ((6, 4, 3, 2), (2, 4, 7, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
        ((6, 4, 2, 4), (2, 4, 7, 8), {"auto_pad": "SAME_LOWER"}),
        ((5, 3, 2, 2, 2), (1, 3, 4, 4, 4), {}),
    ],
)
def test_convolutions(shape: tuple[int, ...], image: tuple[int, ...], attributes: dict[str, Any]) -> None:
    model = model_of("Conv", ["x", "w"], {"w": floats(*shape)}, **attributes)
    output, found = computed(model, {"x": floats(*image)})
    close(found.reshape(-1, shape[0]), np.moveaxis(output, 1, -1).reshape(-1, shape[0]))


def test_transposed_convolutions() -> None:
    """Without overlap, each input makes its own outputs."""
    model = model_of("ConvTranspose", ["x", "w"], {"w": floats(3, 5, 2, 2)}, strides=[2, 2])
    output, found = computed(model, {"x": floats(2, 3, 4, 4)})
    blocks = output.reshape(2, 5, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5)
    close(found.reshape(2, 4, 4, 5, 2, 2), blocks)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_weights_meet_inputs_and_states(direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    tensors = {"w": floats(directions, 12, 5), "r": floats(directions, 12, 3)}
    model = model_of("LSTM", ["x", "w", "r"], tensors, outputs=("y", "h"), hidden_size=3, direction=direction)
    x, states = floats(4, 2, 5), floats(4, directions, 2, 3)
    (of_inputs,), (of_states,) = (products_of(ir.from_proto(model), name) for name in ("w", "r"))
    assert (of_inputs.value, of_states.value) == ("x", "y")
    close(of_inputs.layout.inputs(x, ALL, RANDOM)[:, 0], x.reshape(8, 5))
    close(of_states.layout.inputs(states, ALL, RANDOM)[:, 0], states[:, 0].reshape(8, 3))
    np.testing.assert_array_equal(of_inputs.layout.rows(tensors["w"]), tensors["w"])


def test_few_samples_are_some_of_all() -> None:
    model = model_of("Conv", ["x", "w"], {"w": floats(6, 4, 3, 3)})
    (product,) = products_of(ir.from_proto(model), "w")
    x = floats(2, 4, 7, 8)
    every = {row.tobytes() for row in product.layout.inputs(x, ALL, RANDOM)}
    some = product.layout.inputs(x, 10, np.random.default_rng(1))
    assert len(some) == 10
    assert {row.tobytes() for row in some} < every


def test_transposed_convolutions_with_groups() -> None:
    """Without overlap, each input makes its own outputs, in its own group."""
    weight, x = floats(4, 3, 2, 2), floats(2, 4, 3, 3)
    model = model_of("ConvTranspose", ["x", "w"], {"w": weight}, strides=[2, 2], group=2)
    (product,) = products_of(ir.from_proto(model), "w")
    rows = product.layout.rows(weight)
    np.testing.assert_array_equal(product.layout.weight(rows, weight.shape), weight)
    found = np.einsum("god,ngd->ngo", rows, product.layout.inputs(x, ALL, RANDOM))
    tensors = (torch.from_numpy(each) for each in (x, weight))
    output = torch.nn.functional.conv_transpose2d(*tensors, stride=2, groups=2).numpy()
    blocks = output.reshape(2, 2, 3, 3, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4, 6)
    close(found.reshape(blocks.shape), blocks)


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 3, 2, 5, 6), (5, 6)])
def test_stacks_of_matrices(shape: tuple[int, ...]) -> None:
    output, found = computed(model_of("MatMul", ["x", "w"], {"w": floats(3, 2, 6, 4)}), {"x": floats(3, 2, 5, 6)})
    close(found, output.transpose(2, 0, 1, 3).reshape(5, 6, 4))
    output, found = computed(model_of("MatMul", ["x", "w"], {"w": floats(2, 6, 4)}), {"x": floats(*shape)})
    close(found.reshape(-1, 5, 2, 4), np.swapaxes(output, -2, -3).reshape(-1, 5, 2, 4))


def test_a_stack_of_one_matrix_has_an_output_axis() -> None:
    model = model_of("MatMul", ["x", "w"], {"w": floats(1, 6, 4)})
    output, found = computed(model, {"x": floats(2, 5, 6)})
    close(found[:, 0], output.reshape(10, 4))
    (product,) = products_of(ir.from_proto(model), "w")
    assert product.layout.output_axis((1, 6, 4)) == 2


def with_moves(text: str, **tensors: Array) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in tensors.items())
    return model


def test_weights_that_are_moved_before_they_are_read() -> None:
    model = with_moves(
        """g (float[n,6] x) => (float[n,4] y) <int64[1] three = {3}, int64[1] zero = {0}, int64[2] shape = {0,-1}>
        { a = Slice(w, three, zero, zero)  b = Slice(w, zero, three, zero)  c = Concat<axis = 0>(b, a)
          d = Unsqueeze(c, zero)  e = Squeeze(d, zero)  f = Reshape(e, shape)  t = Transpose(f)  y = MatMul(x, t) }""",
        w=floats(4, 6),
    )
    numbers = {entry.name: entry for entry in model.graph.initializer}
    numbers["zero"].CopyFrom(numpy_helper.from_array(np.array([0]), "zero"))
    assert products_of(ir.from_proto(model), "w") == ()  # a part of it is lost
    four = numpy_helper.from_array(np.array([4]), "four")
    model.graph.initializer.append(four)
    model.graph.node[0].input[2] = "four"
    output, found = computed(model, {"x": floats(5, 6)})
    close(found[:, 0], output)
    (product,) = products_of(ir.from_proto(model), "w")
    assert product.layout.output_axis((4, 6)) == 0
    rows = product.layout.rows(np.arange(24).reshape(4, 6))[0, :, 0] // 6
    assert rows.tolist() == [0, 1, 2, 3]


def test_outputs_keep_their_axis_in_any_order() -> None:
    model = with_moves(
        """g (float[n,6] x) => (float[n,4] y) <int64[1] three = {3}, int64[1] zero = {0}, int64[1] four = {4}>
        { a = Slice(w, three, four, zero)  b = Slice(w, zero, three, zero)  c = Concat<axis = 0>(a, b)
          y = Gemm<transB = 1>(x, c) }""",
        w=floats(4, 6),
    )
    output, found = computed(model, {"x": floats(5, 6)})
    close(found[:, 0], output)
    layout = products_of(ir.from_proto(model), "w")[0].layout
    assert layout.rows(np.arange(24).reshape(4, 6))[0, :, 0].tolist() == [18, 0, 6, 12]
    assert layout.output_axis((4, 6)) == 0


def test_moves_that_repeat_elements_end_soon() -> None:
    """Otherwise thirty operators could ask for any amount of memory."""
    nodes = [
        helper.make_node("Concat", [name, name], [f"{name}a"], axis=0) for name in ("w" + "a" * i for i in range(30))
    ]
    model = with_moves("g (float[n,6] x) => (float[n,k] y) { y = MatMul(x, z) }", w=floats(6, 4))
    model.graph.node[0].input[1] = nodes[-1].output[0]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    assert products_of(ir.from_proto(model), "w") == ()


def test_the_matrix_of_attention() -> None:
    model = with_moves("g (float[2,3,4] x) => (float[2,3,4] y) { y = com.microsoft.Attention<num_heads = 2>(x, w, b) }",
                       w=floats(4, 12), b=floats(12))  # fmt: skip
    (product,) = products_of(ir.from_proto(model), "w")
    assert (product.value, product.layout) == ("x", Matrix(by_output=False))


def test_networks_of_one_step_meet_their_first_state() -> None:
    tensors = {"w": floats(1, 12, 5), "r": floats(1, 12, 3)}
    model = model_of("LSTM", ["x", "w", "r", "", "", "s"], tensors, outputs=("", "h", "c"), hidden_size=3)
    (product,) = products_of(ir.from_proto(model), "r")
    assert product.value == "s"
    states = floats(1, 4, 3)
    close(product.layout.inputs(states, ALL, RANDOM)[:, 0], states[0])


def test_what_is_not_known_has_no_products() -> None:
    model = model_of("MatMul", ["x", "w"], {"w": floats(1, 2, 6, 4)})  # a matrix per batch, the same for some
    assert products_of(ir.from_proto(model), "w") == ()


def test_weights_that_are_read_in_different_ways_have_no_products() -> None:
    model = model_of("MatMul", ["x", "w"], {"w": floats(4, 4)})
    model.graph.node.append(helper.make_node("Gemm", ["y", "w"], ["z"], transB=1))
    assert products_of(ir.from_proto(model), "w") == ()
    model.graph.node[1].CopyFrom(helper.make_node("MatMul", ["y", "w"], ["z"]))
    assert [product.value for product in products_of(ir.from_proto(model), "w")] == ["x", "y"]


def test_convolutions_of_different_strides_may_share_a_kernel() -> None:
    """As those of the octaves of a constant-Q transform do."""
    model = model_of("Conv", ["x", "w"], {"w": floats(5, 3, 4)})
    model.graph.node.append(helper.make_node("Conv", ["v", "w"], ["z"], strides=[2], pads=[1, 1]))
    model.graph.input.append(helper.make_tensor_value_info("v", onnx.TensorProto.FLOAT, None))
    first, second = products_of(ir.from_proto(model), "w")
    assert (first.value, second.value) == ("x", "v")
    assert first.layout != second.layout
    model.graph.node[1].attribute.append(helper.make_attribute("group", 5))  # rows in five groups
    assert products_of(ir.from_proto(model), "w") == ()
