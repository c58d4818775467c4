"""Integer inputs that pick rows of tables are found through what hands their numbers on."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from sws_compress.onnx_io.analyse.index_ranges import index_ranges

NET = """<ir_version: 8, opset_import: ["": 17]>
g (int64[n] ids, int32[n] types, int64[n] columns, int64[n] mask, float[n, 8] x) => (a, b, c, d, e) {
    a = Gather(words, ids)
    wide = Cast<to=7>(types)
    flat = Unsqueeze(wide, zero)
    b = Gather(words, flat)
    b2 = Gather(kinds, flat)
    c = Gather<axis=1>(words, columns)
    numbers = Cast<to=1>(mask)
    d = Neg(numbers)
    e = Gather(x, mask_sum)
    mask_sum = Add(mask, mask)
}"""


def test_indices_reach_tables_through_shapes_and_casts():
    model = onnx.parser.parse_model(NET)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:-2], nodes[-1], nodes[-2]])
    for name, shape in (("words", (100, 8)), ("kinds", (3, 8))):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    assert index_ranges(ir.from_proto(model)) == {"ids": range(100), "types": range(3), "columns": range(8)}
