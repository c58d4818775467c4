"""Recorded nodes become the form with the fewest bytes, and compute the same."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest

from sws_compress.onnx_io.write.emission import emission_of, short_names
from sws_compress.onnx_io.write.insert import insert
from sws_compress.onnx_io.write.onnx_ops import OnnxOps
from sws_compress.onnx_io.write.recorded import (
    MAX_CALLS_WITH_LIFTED_LITERALS,
    Body,
    Handle,
    Step,
    inline_small,
    lift_literals,
    tidy,
)
from sws_compress.onnx_io.write.serialise import emission_bytes, to_bytes
from sws_compress.ort.decode import decoded_weights


def adding(*literals: np.ndarray) -> Body:
    """A function that adds constants to its input."""
    body = Body([Handle()])
    (value,) = body.inputs
    for literal in literals:
        total = Handle()
        body.steps.append(Step("Add", [value, body.literal(literal)], [total]))
        value = total
    body.outputs = [value]
    return body


def calling(body: Body, calls: int) -> Body:
    """A main graph that calls a function on as many vectors."""
    main = Body()
    for number in range(calls):
        output = Handle(name=f"weight{number}")
        main.steps.append(Step("", [main.literal(np.full(9, number, np.float32))], [output], body=body))
        main.outputs.append(output)
    return main


def written(main: Body, *functions: Body):
    return emission_of(main, functions, {}, dict(zip(map(id, functions), "fg", strict=False)), opset=18, taken=())


def values(emission):
    """What ONNX Runtime computes of an emission that has no inputs, by the names of its outputs."""
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 18}), ir_version=8)
    outputs = [v for node in emission.nodes for v in node.outputs if v.name.startswith("weight")]
    insert(model, emission, ())
    for value in outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.append(value)
    return decoded_weights(to_bytes(model), [value.name for value in outputs])


# -- literals of functions --------------------------------------------------------------------------------------------

THREE = np.array(3, np.float32)
SCALARS = (THREE, np.array(1.5, np.float32), np.array(-2, np.float32))


def moved_by_hand(calls: int, literals: tuple[np.ndarray, ...]) -> tuple[Body, Body]:
    """A main graph and a function whose literals are arguments of every call."""
    body = adding(*literals)
    main = calling(body, calls)
    for handle, array in body.literals.values():
        body.inputs.append(handle)
        for step in main.steps:
            step.inputs.append(main.literal(array))
    body.literals = {}
    return main, body


@pytest.mark.parametrize("literals", [(THREE,), SCALARS[:2]], ids=len)
@pytest.mark.parametrize("calls", list(range(1, 11)))
def test_literals_are_lifted_where_that_takes_fewer_bytes(calls, literals):
    """Both forms are written and measured: the smaller one is chosen."""
    body = adding(*literals)
    main = calling(body, calls)
    kept = emission_bytes(written(main, body))
    lifted = emission_bytes(written(*moved_by_hand(calls, literals)))
    lift_literals(body, [main, body])
    chosen = emission_bytes(written(main, body))
    assert chosen == min(kept, lifted)
    assert (chosen == kept) == (calls > MAX_CALLS_WITH_LIFTED_LITERALS)


def test_both_forms_of_literals_compute_the_same():
    for calls in (2, MAX_CALLS_WITH_LIFTED_LITERALS, MAX_CALLS_WITH_LIFTED_LITERALS + 1):
        body = adding(*SCALARS)
        main = calling(body, calls)
        lift_literals(body, [main, body])
        for number, array in enumerate(values(written(main, body)).values()):
            np.testing.assert_array_equal(array, np.full(9, number + 2.5, np.float32))


def test_calls_inside_functions_count_and_get_the_arguments():
    inner = adding(THREE)
    outer = Body([Handle()])
    middle, output = Handle(), Handle()
    outer.steps = [Step("", [outer.inputs[0]], [middle], body=inner), Step("", [middle], [output], body=inner)]
    outer.outputs = [output]
    main = calling(outer, 2)
    lift_literals(inner, [main, inner, outer])
    assert not inner.literals
    assert [len(step.inputs) for step in outer.steps] == [2, 2]
    emission = written(main, inner, outer)
    for number, array in enumerate(values(emission).values()):
        np.testing.assert_array_equal(array, np.full(9, number + 6, np.float32))


# -- functions or copies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "calls"), list(itertools.product([1, 2, 3, 5, 8], [2, 3, 5, 9])))
def test_bodies_become_functions_where_that_takes_fewer_bytes(length, calls):
    """Estimates decide; measured, the chosen form is at most a few bytes larger than the other."""
    sizes = {}
    for kind in ("chosen", "functions", "copies"):
        body = adding(*(np.array(number + 0.5, np.float32) for number in range(length)))
        body.name = "f" if kind == "functions" else None  # a body with a name stays a function
        main = calling(body, calls)
        if kind == "copies":
            for step in list(main.steps):  # a body with one call is always copied
                at = main.steps.index(step)
                alone = Body(literals=main.literals, steps=[step], outputs=step.outputs)
                inline_small(alone, [body])
                main.steps[at : at + 1] = alone.steps
            left = []
        else:
            left = inline_small(main, [body])
        for function in left:
            lift_literals(function, [main, *left])
        emission = written(main, *left)
        sizes[kind] = emission_bytes(emission)
        for number, array in enumerate(values(emission).values()):
            np.testing.assert_array_equal(array, np.full(9, number + length**2 / 2, np.float32))
    assert sizes["chosen"] in (sizes["functions"], sizes["copies"])
    assert sizes["chosen"] <= min(sizes["functions"], sizes["copies"]) + 8


def test_a_body_with_one_call_is_copied_whatever_its_size():
    body = adding(*(np.array(number, np.float32) for number in range(40)))
    main = calling(body, 1)
    assert inline_small(main, [body]) == []
    assert [step.operator for step in main.steps] == ["Add"] * 40


# -- tidying ----------------------------------------------------------------------------------------------------------


def test_equal_steps_are_computed_once_and_names_are_kept():
    main = Body()
    left, right, named = Handle(), Handle(), Handle(name="weight0")
    table = main.literal(np.arange(4, dtype=np.float32))
    main.steps = [Step("Neg", [table], [left]), Step("Neg", [table], [right]), Step("Neg", [table], [named])]
    total = Handle(name="weight1")
    main.steps.append(Step("Add", [left, right], [total]))
    main.outputs = [named, total]
    tidy(main)
    assert [step.operator for step in main.steps] == ["Neg", "Neg", "Add"]
    assert main.steps[-1].inputs == [left, left]
    found = values(written(main))
    np.testing.assert_array_equal(found["weight0"], [0, -1, -2, -3])
    np.testing.assert_array_equal(found["weight1"], [0, -2, -4, -6])


def test_steps_that_differ_are_not_merged():
    main = Body()
    table = main.literal(np.arange(4, dtype=np.float32))
    outputs = [Handle(vector) for vector in (None, (4, np.float32), None)]
    main.steps = [Step("Cast", [table], [output], {"to": to}) for output, to in zip(outputs, (1, 1, 10), strict=True)]
    main.outputs = list(outputs)
    tidy(main)
    assert len(main.steps) == 3


def test_reshapes_of_reshapes_read_the_source_and_unused_ones_go():
    main = Body()
    table, between, output = main.literal(np.arange(6, dtype=np.float32)), Handle(), Handle(name="weight0")
    main.steps = [
        Step("Reshape", [table, main.literal(np.array([2, 3]))], [between]),
        Step("Reshape", [between, main.literal(np.array([3, 2]))], [output]),
    ]
    main.outputs = [output]
    tidy(main)
    assert [step.inputs[0] for step in main.steps] == [table]
    assert len(main.literals) == 2
    np.testing.assert_array_equal(values(written(main))["weight0"], [[0, 1], [2, 3], [4, 5]])


def test_small_literals_are_one_if_they_are_equal():
    body = Body()
    assert body.literal(np.array(1, np.int64)) is body.literal(np.array(1, np.int64))
    assert body.literal(np.array(1, np.int64)) is not body.literal(np.array(1, np.int32))
    assert body.literal(np.array(1, np.int64)) is not body.literal(np.array([1], np.int64))
    payload = np.zeros(5000, np.uint8)
    assert body.literal(payload) is body.literal(payload)
    assert body.literal(payload) is not body.literal(payload.copy())  # payload is not read


# -- names ------------------------------------------------------------------------------------------------------------


def test_short_names_leave_out_those_that_are_taken():
    names = list(itertools.islice(short_names({"b", "aa"}), 53))
    assert names[:3] == ["a", "c", "d"]
    assert names[51:] == ["ab", "ac"]


def test_decoders_use_no_name_of_the_model():
    ops = OnnxOps(18, taken=("a", "c"))
    total = ops.add(ops.constant(np.array(1.0, np.float32)), ops.constant(np.array(2.0, np.float32)))
    emission = ops.finish({"w": ops.add(total, total)})
    names = [value.name for value in emission.initializers] + [v.name for node in emission.nodes for v in node.outputs]
    assert sorted(names) == ["b", "d", "e", "w"]
