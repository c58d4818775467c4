"""Embeddings that stay packed: looked up as dense ones are, restored by expand, and told apart from damaged ones."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.errors import ModelError, SwsError, VerificationError
from sws_compress.onnx_io.analyse.embeddings import find_embeddings
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import find_palettes, pack
from tests.onnx_io.models import few_values
from tests.whole import expanded, inspected, weights_in

ROWS, WIDTH = 2000, 96
FEEDS = {"ids": np.array([[3, -1, 0], [1999, -2000, 3]]), "flag": np.array(True)}
TABLE = few_values((ROWS, WIDTH), np.linspace(-1, 2, 16), np.ones(16))
OTHER = few_values((ROWS, WIDTH), np.linspace(-3, 1, 4), np.ones(4), seed=1)
HEAD = few_values((WIDTH, 70), np.linspace(-1, 1.5, 16), np.ones(16), seed=2)


def gather(table, output, ids="ids", **attributes):
    return helper.make_node("Gather", [table, ids], [output], **attributes)


def model_of(nodes, tensors, rank=3):
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "m"]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def sentences():
    """Two tables, one read twice and once in a branch, and a matrix that is decoded at load."""
    branches = {
        name: helper.make_graph(
            [gather(table, f"{name}_b", axis=-2)], name, [], [helper.make_tensor_value_info(f"{name}_b", 1, [None] * 3)]
        )
        for name, table in (("then", "T"), ("else", "U"))
    }
    nodes = [
        gather("T", "a"),
        gather("U", "b", axis=0),
        helper.make_node("If", ["flag"], ["c"], then_branch=branches["then"], else_branch=branches["else"]),
        helper.make_node("Sum", ["a", "b", "c"], ["s"]),
        helper.make_node("MatMul", ["s", "H"], ["y"]),
    ]
    return model_of(nodes, {"T": TABLE, "U": OTHER, "H": HEAD})


def packed(model, **options):
    read = ir.from_proto(model)
    return pack(read, find_palettes(read), packed_rows=True, **options)


@functools.cache
def small_sentences():
    return packed(sentences()).data


def rows_of(data):
    return {row.name: row for row in inspected(data).rows}


@pytest.mark.parametrize("flag", [True, False])
def test_looked_up_as_decoded_and_dense(flag):
    dense = sentences()
    read = ir.from_proto(dense)
    small = packed(dense)
    check_runs(small.data)
    feeds = FEEDS | {"flag": np.array(flag)}
    for other in (dense.SerializeToString(), pack(read, find_palettes(read)).data):
        (difference,) = compare_outputs(other, small.data, feeds)
        assert difference.largest_absolute == 0
    assert {tensor.name: tensor.encoding for tensor in small.tensors if tensor.encoding == "rows"}.keys() == {"T", "U"}
    assert small.notes == ()


def test_the_file_holds_packed_bytes_under_the_weights_name():
    model = onnx.load_from_string(small_sentences())
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert (stored["T"].data_type, list(stored["T"].dims)) == (TensorProto.UINT8, [ROWS, WIDTH // 2])
    assert (stored["U"].data_type, list(stored["U"].dims)) == (TensorProto.UINT8, [ROWS, WIDTH // 4])
    assert [node.op_type for node in model.graph.node if "ids" in node.input] == ["rows", "rows"]
    assert sorted(function.name for function in model.functions if function.name.startswith("rows")) == ["rows"]


def test_weights_come_back_bit_for_bit_and_nothing_else_stays():
    dense = sentences()
    expansion = expanded(packed(dense).data)
    model = onnx.load_from_string(expansion.data)
    assert set(expansion.expanded) == {"T", "U", "H"}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert arrays.keys() == {"T", "U", "H"}
    for name, array in (("T", TABLE), ("U", OTHER), ("H", HEAD)):
        assert arrays[name].tobytes() == array.tobytes()
    assert not model.functions
    assert [entry.domain for entry in model.opset_import] == [""]
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in dense.graph.node]
    check_runs(expansion.data)
    assert packed(model).data == packed(dense).data


def test_inspection_lists_them_with_their_bytes():
    data = small_sentences()
    inspection = inspected(data)
    rows = rows_of(data)
    assert {name: row.encoding for name, row in rows.items() if name in "TU"} == {"T": "rows", "U": "rows"}
    assert (rows["T"].shape, rows["T"].distinct_values) == (TABLE.shape, 16)
    assert ROWS * WIDTH // 2 < rows["T"].file_bytes < ROWS * WIDTH // 2 + 200
    parts = sum(row.file_bytes for row in inspection.rows) + inspection.shared_bytes + inspection.graph_bytes
    assert parts == len(data)
    assert inspection.decoding.computed_bytes < 3 * TABLE.nbytes  # of the matrix alone
    weights = weights_in(data)
    assert weights.keys() == {"T", "U", "H"}
    assert weights["T"].tobytes() == TABLE.tobytes()


def test_names_may_be_left_out():
    small = packed(sentences(), weight_names=False)
    decoded = decoded_weights(small.data, [small.renamed["T"]])[small.renamed["T"]]
    assert decoded.tobytes() == TABLE.tobytes()


TIED = [gather("T", "e"), helper.make_node("Transpose", ["T"], ["h"]), helper.make_node("MatMul", ["e", "h"], ["y"])]


@pytest.mark.parametrize(
    ("nodes", "rank", "told"),
    [
        (TIED, 3, "T does not stay packed: it is read by Transpose"),
        ([gather("T", "y", axis=1)], 3, "is read by Gather along axis 1"),
        ([gather("T", "y", "P")], 2, "is read by Gather at constant positions"),
        ([helper.make_node("Identity", ["T"], ["i"]), gather("i", "y")], 3, "is read by Identity"),
        (
            [helper.make_node("MatMul", ["T", "H"], ["y"])],
            2,
            "no embedding stays packed: Gather reads no table of 65,536 elements",
        ),
    ],
)
def test_tables_that_cannot_stay_packed_are_decoded_and_told(nodes, rank, told):
    dense = model_of(nodes, {"T": TABLE, "P": np.array([0, 1]), "H": HEAD}, rank)
    small = packed(dense)
    (note,) = small.notes
    assert told in note
    assert rows_of(small.data)["T"].encoding not in ("rows", "dense")
    feeds = FEEDS | {"ids": np.array([[3, 0, 5]])}
    (difference,) = compare_outputs(dense.SerializeToString(), small.data, feeds)
    assert difference.largest_relative < 1e-6


def test_a_table_of_many_values_is_told():
    many = np.random.default_rng(0).standard_normal(TABLE.shape).astype(np.float32)
    small = packed(model_of([gather("T", "y")], {"T": many}))
    assert small.notes == ("T does not stay packed: it has scales, one value, or more than 256",)


def test_small_tables_are_not_embeddings():
    model = ir.from_proto(model_of([gather("T", "y")], {"T": TABLE[:600]}))
    assert find_embeddings(model) == ()
    assert [embedding.name for embedding in find_embeddings(model, smallest=1)] == ["T"]


# -- damaged files ----------------------------------------------------------------------------------------------------


def damaged(change):
    model = onnx.load_from_string(small_sentences())
    calls = [node for node in model.graph.node if node.domain == "sws" and node.op_type.startswith("rows")]
    change(model, calls)
    return model.SerializeToString()


def another_codebook(model, calls):
    model.graph.node.append(calls[0])
    model.graph.node[-1].output[0], model.graph.node[-1].input[2] = "z", calls[1].input[2]


def another_reader(model, _):
    model.graph.node.append(helper.make_node("Cast", ["T"], ["z"], to=1))


def no_table(_, calls):
    calls[0].input[1] = "nowhere"


def no_inputs(_, calls):
    del calls[0].input[1:]


def in_a_function(model, calls):
    model.functions[0].node.append(calls[0])


def an_output(model, _):
    model.graph.output.append(helper.make_tensor_value_info("T", TensorProto.UINT8, [ROWS, WIDTH // 2]))


@pytest.mark.parametrize("change", [another_codebook, another_reader, no_table, no_inputs, in_a_function, an_output])
def test_look_ups_that_are_none_of_ours(change):
    data = damaged(change)
    for work in (inspected, expanded, lambda data: decoded_weights(data, ["T"])):
        with pytest.raises(ModelError, match="the file is damaged"):
            work(data)


def another_function(body):
    def change(model, _):
        for function in model.functions:
            if function.name.startswith("rows"):
                del function.node[:]
                function.node.extend(body(function))

    return change


def words_cut_off(model, _):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "T")
    tensor.raw_data = tensor.raw_data[: ROWS * 10]
    tensor.dims[1] = 10


@pytest.mark.parametrize(
    "change",
    [
        another_function(lambda f: [helper.make_node("Identity", [f.input[0]], [f.output[0]])]),
        another_function(lambda f: [helper.make_node("Shape", [f.input[1]], [f.output[0]])]),
        another_function(lambda f: [helper.make_node("Cast", [f.input[1]], [f.output[0]], to=6)]),
        words_cut_off,
    ],
)
def test_look_ups_that_give_no_rows(change):
    data = damaged(change)
    with pytest.raises((ModelError, VerificationError)) as caught:
        expanded(data)
    assert "\n" not in str(caught.value)


def test_words_that_no_row_can_have():
    """Words of base 3 are at most 242: the rest is no row of the table of all words."""
    table = few_values((20_000, 15), [-1, 0, 2.5], [1, 2, 1])
    model = onnx.load_from_string(packed(model_of([gather("T", "y")], {"T": table})).data)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "T")
    tensor.raw_data = b"\xff" * len(tensor.raw_data)
    for work in (inspected, expanded):
        with pytest.raises(SwsError, match="decode nodes must run"):
            work(model.SerializeToString())


def test_a_mark_that_counts_too_many_nodes():
    model = onnx.load_from_string(small_sentences())
    next(entry for entry in model.metadata_props if entry.key == "sws_compress").value = "1:999"
    assert set(expanded(model.SerializeToString()).expanded) >= {"T", "U", "H"}
