"""Which values say what rows of a table are looked up."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.analyse.looked_up import Rows, positions_of

node = helper.make_node
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def positions_in(nodes: list[onnx.NodeProto], **constants: Any) -> tuple[str, ...]:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("i", TensorProto.INT64, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in {"t": TABLE, **constants}.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return positions_of(ir.from_proto(helper.make_model(graph, opset_imports=opsets)), "t")


EMBED = ["i", "i", "t", "p", "t2", "g", "b"]
VECTORS = {name: np.ones(3, np.float32) for name in "gb"}
TABLES = {"p": TABLE, "t2": TABLE, **VECTORS}


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ([node("Gather", ["t", "i"], ["y"])], {}, ("i",)),
        (
            [node("Abs", ["i"], ["a"]), node("Gather", ["t", "i"], ["h"]), node("Gather", ["t", "a"], ["y"])],
            {},
            ("i", "a"),
        ),
        ([node("EmbedLayerNormalization", EMBED, ["y", "m"], domain="com.microsoft")], TABLES, ("i",)),
        ([node("Gather", ["t", "i"], ["y"], axis=1)], {}, ()),
        ([node("Gather", ["t", "k"], ["y"])], {"k": np.array([1, 2])}, ()),
        ([node("Gather", ["t", "i"], ["h"]), node("MatMul", ["h", "t"], ["y"])], {}, ()),
        ([node("Transpose", ["t"], ["u"]), node("Gather", ["u", "i"], ["y"])], {}, ()),
        ([node("Gather", ["t", "i"], ["h"]), node("Add", ["h", "t"], ["y"])], {}, ()),
    ],
)
def test_positions(nodes: list[onnx.NodeProto], constants: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert set(positions_in(nodes, **constants)) == set(expected)


def test_rows_are_those_of_the_table() -> None:
    table = np.arange(24).reshape(4, 3, 2)
    rows = Rows(scaled=True).rows(table)
    assert rows.shape == (1, 4, 6)
    np.testing.assert_array_equal(rows[0, 1], table[1].reshape(-1))
    np.testing.assert_array_equal(Rows(scaled=True).weight(rows, table.shape), table)
    assert Rows(scaled=True).output_axis(table.shape) == 0
    assert Rows(scaled=False).output_axis(table.shape) is None
