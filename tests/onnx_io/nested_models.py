"""Small models with weights wherever a model can hold them: constants, bodies, functions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_io.models import few_values

SIZE = 40
FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def weights(seed):
    return few_values((SIZE, SIZE), np.linspace(-1, 1.25, 16) / 8, np.ones(16), seed)


def constant(name, values):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values))


def matmul(left, right, output):
    return helper.make_node("MatMul", [left, right], [output])


def info(name, element_type=FLOAT, shape=(2, SIZE)):
    return helper.make_tensor_value_info(name, element_type, shape)


def model_of(nodes, *, inputs=(), initializers=(), functions=(), ir_version=8):
    graph = helper.make_graph(nodes, "g", [info("x"), *inputs], [info("y")], list(initializers))
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid("mine", 1)] if functions else [])]
    model = helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model


def branch(nodes, output, initializers=()):
    return helper.make_graph(nodes, "b", [], [info(output)], list(initializers))


def in_constants():
    return model_of(
        [constant("W", weights(0)), matmul("x", "W", "h"), constant("V", weights(1)), matmul("h", "V", "y")]
    )


def in_branches():
    """Both branches use the same names, one of them for an initialiser; there is an If in an If."""
    inner = branch([constant("W", weights(3)), matmul("x", "W", "u")], "u")
    other = branch([helper.make_node("Neg", ["x"], ["v"])], "v")
    nested = helper.make_node("If", ["flag"], ["t"], then_branch=inner, else_branch=other)
    then = branch([nested], "t")
    otherwise = branch([matmul("x", "W", "e")], "e", [numpy_helper.from_array(weights(2), "W")])
    return model_of(
        [helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise)],
        inputs=[info("flag", BOOL, [])],
    )


def in_a_loop():
    nodes = [constant("W", weights(4)), matmul("s", "W", "t"), helper.make_node("Identity", ["c"], ["d"])]
    body = helper.make_graph(
        nodes, "b", [info("i", INT64, []), info("c", BOOL, []), info("s")], [info("d", BOOL, []), info("t")]
    )
    return model_of([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], inputs=[info("n", INT64, [])])


def in_a_scan():
    nodes = [constant("W", weights(5)), matmul("s", "W", "h"), helper.make_node("Tanh", ["h"], ["t"])]
    row = [SIZE]
    nodes += [helper.make_node("Add", ["t", "r"], ["o"]), helper.make_node("Identity", ["t"], ["t2"])]
    body = helper.make_graph(
        nodes, "b", [info("s", shape=row), info("r", shape=row)], [info("t2", shape=row), info("o", shape=row)]
    )
    start = constant("s0", np.ones(SIZE, np.float32))
    return model_of([start, helper.make_node("Scan", ["s0", "x"], ["last", "y"], body=body, num_scan_inputs=1)])


def in_functions():
    """A function with a weight, called three times, once by another function with a weight of its own."""
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    inner = helper.make_function(
        "mine", "Inner", ["a"], ["b"], [constant("W", weights(6)), matmul("a", "W", "b")], opset
    )
    nodes = [
        constant("W", weights(7)),
        matmul("a", "W", "c"),
        helper.make_node("Inner", ["c"], ["d"], domain="mine"),
        helper.make_node("Add", ["d", "a"], ["b"]),
    ]
    outer = helper.make_function("mine", "Outer", ["a"], ["b"], nodes, opset)
    calls = [("Inner", "x", "h"), ("Outer", "h", "k"), ("Inner", "k", "y")]
    return model_of(
        [helper.make_node(name, [source], [target], domain="mine") for name, source, target in calls],
        functions=[outer, inner],
    )


def in_a_branch_of_a_function():
    then = branch([constant("W", weights(8)), matmul("a", "W", "t")], "t")
    other = branch([matmul("a", "W", "e")], "e", [numpy_helper.from_array(weights(9), "W")])
    function = helper.make_function(
        "mine",
        "Choose",
        ["a", "f"],
        ["b"],
        [helper.make_node("If", ["f"], ["b"], then_branch=then, else_branch=other)],
        [helper.make_opsetid("", 18)],
    )
    return model_of(
        [helper.make_node("Choose", ["x", "flag"], ["y"], domain="mine")],
        inputs=[info("flag", BOOL, [])],
        functions=[function],
    )


def in_an_optional_input():
    """A call leaves out the second input, so the weight becomes the third."""
    nodes = [constant("W", weights(10)), matmul("a", "W", "b")]
    function = helper.make_function("mine", "F", ["a", "unused"], ["b"], nodes, [helper.make_opsetid("", 18)])
    return model_of([helper.make_node("F", ["x"], ["y"], domain="mine")], functions=[function])


def handed_to_a_function():
    function = helper.make_function(
        "mine", "F", ["a", "w"], ["b"], [matmul("a", "w", "b")], [helper.make_opsetid("", 18)]
    )
    return model_of(
        [helper.make_node("F", ["x", "W"], ["y"], domain="mine")],
        initializers=[numpy_helper.from_array(weights(11), "W")],
        functions=[function],
    )


def stored_twice():
    tensors = [numpy_helper.from_array(weights(12), name) for name in ("V", "W")]
    return model_of([matmul("x", "V", "h"), matmul("h", "W", "y")], initializers=tensors)


def tied():
    """An embedding that is the output matrix as well, transposed."""
    nodes = [
        helper.make_node("Transpose", ["W"], ["T"]),
        helper.make_node("Gather", ["W", "i"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["h"]),
        matmul("h", "T", "y"),
    ]
    tensors = [numpy_helper.from_array(weights(13), "W"), numpy_helper.from_array(np.array([3, 1]), "i")]
    return model_of(nodes, initializers=tensors)


def identity(source, output):
    return helper.make_node("Identity", [source], [output])


def behind_identities():
    """One weight that three layers share, as torch exports them: by name, behind one Identity, and behind two."""
    nodes = [
        identity("W", "V"),
        identity("V", "U"),
        matmul("x", "W", "h"),
        matmul("h", "V", "k"),
        matmul("k", "U", "y"),
    ]
    return model_of(nodes, initializers=[numpy_helper.from_array(weights(14), "W")])


def behind_identities_in_bodies():
    """Identities of weights of the main graph, of a branch, and of a function."""
    function = helper.make_function(
        "mine",
        "F",
        ["a"],
        ["b"],
        [constant("W", weights(15)), identity("W", "V"), matmul("a", "V", "b")],
        [helper.make_opsetid("", 18)],
    )
    then = branch([identity("V", "U"), matmul("x", "U", "t")], "t")
    other = branch([constant("C", weights(16)), identity("C", "D"), matmul("x", "D", "e")], "e")
    nodes = [
        identity("W", "V"),
        helper.make_node("If", ["flag"], ["h"], then_branch=then, else_branch=other),
        helper.make_node("F", ["h"], ["y"], domain="mine"),
    ]
    tensors = [numpy_helper.from_array(weights(17), "W")]
    return model_of(nodes, inputs=[info("flag", BOOL, [])], initializers=tensors, functions=[function])


MODELS = {
    in_constants: 2, in_branches: 2, in_a_loop: 1, in_a_scan: 1, in_functions: 2, in_a_branch_of_a_function: 2,
    in_an_optional_input: 1, handed_to_a_function: 1, stored_twice: 1, tied: 1,
    behind_identities: 1, behind_identities_in_bodies: 3,
}  # fmt: skip


def feeds_of(model, flag):
    feeds = {"x": np.random.default_rng(0).standard_normal((2, SIZE)).astype(np.float32)}
    values = {"flag": np.array(flag), "n": np.array(3)}
    return feeds | {entry.name: values[entry.name] for entry in model.graph.input if entry.name in values}
