"""Changes to a model that keep its file a readable protobuf: each looks for what code takes for granted.

A mutation gets the `Case` that it changes in place, and draws all it needs from the case's own random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from sws_compress.onnx_io.traversal import graphs, nodes, tensors
from tests.fuzz.bases import NEWEST_OPSET

SIZES = (0, 1, -1, 2, 3, 7, 255, 1 << 16, 3_000_000, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1,
         -(1 << 31), -(1 << 63))  # fmt: skip
VALUES = (np.nan, np.inf, -np.inf, 1e170, -1e170, 1e308, 1e38, 3e38, 5e-324, 1e-310, 1e-40, 0.0, -0.0, 1.0, 65504.0)
TEXTS = ("", "\x1b[31mred", "a\nb", "a\rb", "\a\b", "nul\0nul", "[/red]", "[bold]x", r"$\frac{$", "é" * 200, "n" * 5000,
         "\u202egnp", "../../etc/passwd", "%s%n", "x", "y", "W", "W0", "h0", "ai.onnx", "sws", "com.microsoft", "mine",
         "sws_compress", "1:3", "-o", "\ud7ff", "😀", "y" * 250)  # fmt: skip
LOCATIONS = ("w.bin", "../w.bin", "/etc/passwd", "", ".", "..", "net.onnx", "none.bin", "link.bin", "pipe", "w.bin/",
             "./w.bin", "w\0.bin", "x" * 300, "*[model]", "sub/w.bin", "hard.bin", "circle")  # fmt: skip
NUMBERS = ("0", "-1", "4", "64", "1000000", str(1 << 31), str(1 << 62), "9" * 400, "ten", "", " 8", "0x10", "１")
OPERATORS = [
    "Add",
    "Mul",
    "MatMul",
    "Gather",
    "Reshape",
    "Transpose",
    "Concat",
    "Split",
    "Slice",
    "Cast",
    "Conv",
    "Gemm",
    "LSTM",
    "Identity",
    "Constant",
    "If",
    "Loop",
    "Scan",
    "Shape",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Range",
    "Pad",
    "Resize",
    "OneHot",
    "NonZero",
    "TopK",
    "Where",
    "CumSum",
    "Einsum",
    "QuantizeLinear",
    "Dropout",
    "DequantizeLinear",
    "RandomNormal",
    "SequenceConstruct",
    "SequenceAt",
    "Optional",
    "StringNormalizer",
    "BitShift",
    "Bernoulli",
    "Unique",
    "Compress",
    "MatMulNBits",
    "rows",
    "unpack",
    "NoSuch",
]


@dataclass
class Case:
    """A model to be damaged, what lies beside it, and the random numbers that decide."""

    model: onnx.ModelProto
    random: np.random.Generator
    beside: dict[str, bytes] = field(default_factory=dict)

    def pick(self, entries: Sequence[Any]) -> Any:
        return entries[int(self.random.integers(len(entries)))] if len(entries) else None

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def node(self) -> onnx.NodeProto | None:
        return self.pick(list(nodes(self.model)))

    def tensor(self) -> TensorProto | None:
        return self.pick(list(tensors(self.model)))

    def graph(self) -> onnx.GraphProto:
        return self.pick(list(graphs(self.model))) if self.chance(0.4) else self.model.graph


# -- tensors ----------------------------------------------------------------------------------------------------------


def dims(case: Case) -> None:
    tensor = case.tensor()
    if tensor is None:
        return
    sizes = list(tensor.dims)
    kind = case.random.integers(6)
    if kind == 0 and sizes:
        sizes[int(case.random.integers(len(sizes)))] = case.pick(SIZES)
    elif kind == 1:
        sizes.insert(int(case.random.integers(len(sizes) + 1)), case.pick((0, 1, 1, 2, -1, 1 << 62)))
    elif kind == 2 and sizes:
        del sizes[int(case.random.integers(len(sizes)))]
    elif kind == 3:
        sizes = sizes[::-1]
    elif kind == 4:
        sizes = [1 << 32, 1 << 32, *sizes]
    else:
        sizes = [int(np.prod(sizes))] if case.chance(0.5) else [*sizes, *[1] * int(case.random.integers(1, 40))]
    tensor.dims[:] = sizes


def element_type(case: Case) -> None:
    if (tensor := case.tensor()) is not None:
        tensor.data_type = int(case.random.integers(0, 30)) if case.chance(0.8) else case.pick((-1, 1000, 1 << 30))


def data(case: Case) -> None:
    tensor = case.tensor()
    if tensor is None:
        return
    kind = case.random.integers(7)
    raw = tensor.raw_data
    if kind == 0:
        tensor.raw_data = raw[: int(case.random.integers(len(raw) + 1))]
    elif kind == 1:
        tensor.raw_data = raw + case.random.bytes(int(case.random.integers(1, 9)))
    elif kind == 2:
        tensor.ClearField("raw_data")
    elif kind == 3:
        tensor.float_data.extend([1.0] * int(case.random.integers(1, 99)))
    elif kind == 4:
        tensor.ClearField("raw_data")
        tensor.int32_data.extend([case.pick((0, 1, -1, 1 << 30))] * int(np.clip(np.prod(tensor.dims), 0, 5000)))
    elif kind == 5:
        tensor.string_data.append(b"\xff\xfe")
    else:
        tensor.segment.begin, tensor.segment.end = 0, 1


def values(case: Case) -> None:
    """Numbers that break arithmetic, in a tensor that may become float64 first."""
    floats = [
        t
        for t in case.model.graph.initializer
        if t.data_type in (1, 10, 11) and t.raw_data and min(t.dims, default=1) > 0
    ]
    tensor = case.pick(floats)
    if tensor is None:
        return
    try:
        array = numpy_helper.to_array(tensor).copy()
    except Exception:  # damaged before
        return
    if case.chance(0.4):
        array = array.astype(case.pick((np.float64, np.float64, np.float16)))
    number, kind = case.pick(VALUES), case.random.integers(5)
    with np.errstate(all="ignore"):
        if kind == 0:
            array[...] = number
        elif kind == 1:
            array.reshape(-1)[int(case.random.integers(array.size))] = number
        elif kind == 2:
            array *= np.asarray(number).astype(array.dtype)
        elif kind == 3:
            array[case.random.random(array.shape) < 0.5] = number
        else:
            array += np.asarray(number).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def codes(case: Case) -> None:
    """Other bytes and numbers in tables, lengths and codes."""
    whole = [t for t in case.model.graph.initializer if t.data_type in (2, 3, 6, 7, 12) and t.raw_data]
    tensor = case.pick(whole) if whole else case.tensor()
    if tensor is None or not tensor.raw_data:
        return
    raw = bytearray(tensor.raw_data)
    if case.chance(0.5) and tensor.data_type == TensorProto.INT64 and len(raw) >= 8:
        at = 8 * int(case.random.integers(len(raw) // 8))
        raw[at : at + 8] = int(case.pick(SIZES)).to_bytes(8, "little", signed=True)
    else:
        for _ in range(int(case.random.integers(1, 5))):
            raw[int(case.random.integers(len(raw)))] = int(case.random.integers(256))
    tensor.raw_data = bytes(raw)


def external(case: Case) -> None:
    """Data in a file beside the model, stated rightly or wrongly; or stray entries on a tensor that has its data."""
    tensor = case.tensor()
    if tensor is None:
        return
    stray = case.chance(0.3)
    entries = {"location": case.pick(LOCATIONS)}
    if case.chance(0.6):
        entries["offset"] = case.pick(NUMBERS)
    if case.chance(0.6):
        entries["length"] = case.pick((*NUMBERS, str(len(tensor.raw_data))))
    if case.chance(0.1):
        entries[case.pick(TEXTS)] = case.pick(TEXTS)
    if not stray:
        case.beside.setdefault("w.bin", tensor.raw_data + b"\0" * 64)
        tensor.ClearField("raw_data")
        tensor.data_location = case.pick((TensorProto.EXTERNAL, TensorProto.EXTERNAL, TensorProto.DEFAULT))
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def sparse(case: Case) -> None:
    graph = case.graph()
    indices = numpy_helper.from_array(np.array(case.pick(([0, 1], [5, 2], [1 << 40, -1], [0, 0])), np.int64), "i")
    entry = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), case.pick(("s", "W0", ""))), indices, [4, case.pick(SIZES)]
    ) if case.chance(0.5) else onnx.SparseTensorProto()  # fmt: skip
    graph.sparse_initializer.append(entry)


# -- attributes, names, edges -----------------------------------------------------------------------------------------


def attribute(case: Case) -> None:
    node = case.node()
    if node is None:
        return
    entry = case.pick(node.attribute)
    if entry is None or case.chance(0.2):
        entry = node.attribute.add(name=case.pick(("axis", "value", "perm", "to", "body", "hidden_size", "pads", "W")))
    kind = case.random.integers(9)
    if kind == 0:
        node.attribute.remove(entry)
    elif kind == 1:
        entry.type = int(case.random.integers(0, 16))
    elif kind == 2:
        entry.type, entry.i = AttributeProto.INT, case.pick(SIZES)
    elif kind == 3:
        entry.type = AttributeProto.INTS
        del entry.ints[:]
        entry.ints.extend(case.pick(SIZES) for _ in range(int(case.random.integers(0, 5))))
    elif kind == 4:
        entry.ClearField("g")
        entry.ClearField("t")
        entry.type = case.pick((AttributeProto.GRAPH, AttributeProto.TENSOR, AttributeProto.GRAPHS))
    elif kind == 5:
        entry.type, entry.s = AttributeProto.STRING, case.pick((b"", b"\xff", b"nul\0", b"x" * 3000))
    elif kind == 6:
        entry.ref_attr_name = case.pick(("alpha", "", "value"))
    elif kind == 7:
        entry.type, entry.f = AttributeProto.FLOAT, float(case.pick((np.nan, np.inf, 1e38, 0.0)))
    else:
        node.attribute.append(entry)


def name(case: Case) -> None:
    """A name that is empty, used twice, or unfit for a terminal; of a value everywhere or in one place."""
    text, kind, model = case.pick(TEXTS), case.random.integers(8), case.model
    node, graph = case.node(), case.graph()
    if kind == 0 and node is not None:
        node.name = text
    elif kind == 1 and node is not None:
        node.op_type = case.pick(OPERATORS) if case.chance(0.7) else text
    elif kind == 2 and node is not None:
        node.domain = text
    elif kind == 3:
        graph.name = text
        graph.doc_string = text
    elif kind == 4:
        entry = case.pick((*graph.input, *graph.output, *graph.initializer, *graph.value_info))
        if entry is not None:
            entry.name = text
    elif kind == 5 and node is not None and node.output:
        node.output[int(case.random.integers(len(node.output)))] = text
    else:
        known = [value for each in nodes(model) for value in (*each.input, *each.output) if value]
        if known:
            rename(model, case.pick(known), text)


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """A value by another name, everywhere."""
    for node in nodes(model):
        for part in (node.input, node.output):
            for place, value in enumerate(part):
                if value == old:
                    part[place] = new
    for graph in graphs(model):
        for entry in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            if entry.name == old:
                entry.name = new


def edge(case: Case) -> None:
    node, other = case.node(), case.node()
    if node is None or other is None:
        return
    kind = case.random.integers(9)
    if kind == 0 and node.input and other.output:
        node.input[int(case.random.integers(len(node.input)))] = case.pick(other.output)
    elif kind == 1 and node.input:
        del node.input[int(case.random.integers(len(node.input)))]
    elif kind == 2 and node.output:
        node.output[int(case.random.integers(len(node.output)))] = ""
    elif kind == 3:
        node.input.append(case.pick((*other.input, *other.output, "", "nowhere")))
    elif kind == 4:
        node.output.append(case.pick((*other.output, "", "extra")))
    elif kind == 5 and node.output and node.input:
        node.input[0] = node.output[0]
    elif kind == 6:
        del node.output[:]
    elif kind == 7 and node.input:
        node.input[int(case.random.integers(len(node.input)))] = ""
    else:
        node.input[:] = list(node.input)[::-1]


def node_list(case: Case) -> None:
    body = case.graph().node
    if not body:
        return
    place, kind = int(case.random.integers(len(body))), case.random.integers(4)
    if kind == 0:
        del body[place]
    elif kind == 1:
        body.append(body[place])
    elif kind == 2:
        shuffled = [body[i] for i in case.random.permutation(len(body))]
        copies = onnx.GraphProto(node=shuffled)
        del body[:]
        body.extend(copies.node)
    else:
        del body[:]


# -- the model --------------------------------------------------------------------------------------------------------


def versions(case: Case) -> None:
    model, kind = case.model, case.random.integers(7)
    imports = model.opset_import
    if kind == 0 and imports:
        case.pick(imports).version = case.pick((0, 1, 6, 7, 8, 12, 13, NEWEST_OPSET, NEWEST_OPSET + 1, 1 << 40, -1))
    elif kind == 1 and imports:
        del imports[int(case.random.integers(len(imports)))]
    elif kind == 2:
        imports.add(domain=case.pick(TEXTS), version=case.pick((1, 0, 17, 1 << 62)))
    elif kind == 3:
        model.ir_version = case.pick((0, 1, 2, 3, 4, 7, onnx.IR_VERSION, onnx.IR_VERSION + 1, 1 << 62, -1))
    elif kind == 4 and imports:
        imports.append(imports[0])
    elif kind == 5:
        model.metadata_props.add(key=case.pick(TEXTS), value=case.pick(TEXTS))
    else:
        model.producer_name = case.pick(TEXTS)


def interface(case: Case) -> None:
    """Declared inputs, outputs and shapes: sizes that nobody has, other types, entries missing or twice."""
    graph = case.graph()
    part = case.pick((graph.input, graph.output, graph.output, graph.value_info))
    if case.chance(0.1):
        made = [value for node in graph.node for value in (*node.output, *node.input)]
        shape = [case.pick(SIZES) for _ in range(int(case.random.integers(0, 4)))]
        part.append(helper.make_tensor_value_info(case.pick((*made, "z")), int(case.random.integers(1, 24)), shape))
        return
    entry = case.pick(part)
    if entry is None:
        return
    kind = case.random.integers(7)
    if kind <= 2:
        sizes = entry.type.tensor_type.shape.dim
        if sizes:
            case.pick(sizes).dim_value = case.pick(SIZES)
        else:
            sizes.add(dim_value=case.pick(SIZES))
    elif kind == 3:
        entry.type.tensor_type.elem_type = int(case.random.integers(0, 30))
    elif kind == 4:
        entry.ClearField("type")
        if case.chance(0.6):
            entry.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 5:
        part.remove(entry)
    else:
        part.append(entry)


def functions(case: Case) -> None:
    model, kind = case.model, case.random.integers(7)
    graph = model.graph
    if kind == 0 and model.functions:
        del model.functions[int(case.random.integers(len(model.functions)))]
    elif kind == 1 and model.functions:
        model.functions.append(case.pick(model.functions))
    elif kind == 2 and model.functions:
        function = case.pick(model.functions)
        function.node.add(op_type=function.name, domain=function.domain, input=function.input, output=["again"])
    elif kind == 3 and model.functions:
        function = case.pick(model.functions)
        if function.node:
            del function.node[int(case.random.integers(len(function.node)))]
    elif kind == 4 and model.functions:
        function = case.pick(model.functions)
        setattr(function, case.pick(("name", "domain")), case.pick((*TEXTS, *OPERATORS)))
    elif kind == 5:
        domain = case.pick(("sws", "mine", "x"))
        graph.node.insert(0, helper.make_node(case.pick(OPERATORS), [], ["called"], domain=domain))
        if case.chance(0.5):
            model.opset_import.add(domain=domain, version=1)
    else:
        doubling(case)


def doubling(case: Case) -> None:
    """Functions each of which calls the next one twice."""
    count, made = int(case.pick((3, 14, 30, 60))), []
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("double", 1)]
    for number in range(count):
        called, domain = ("Neg", "") if number == count - 1 else (f"f{number + 1}", "double")
        body = [helper.make_node(called, [a], [b], domain=domain) for a, b in (("a", "m"), ("m", "b"))]
        made.append(helper.make_function("double", f"f{number}", ["a"], ["b"], body, imports))
    case.model.functions.extend(made)
    case.model.opset_import.add(domain="double", version=1)
    first = case.model.graph.input[0]
    node = helper.make_node("f0", [first.name], ["doubled"], domain="double")
    use(case, node, "doubled", len(first.type.tensor_type.shape.dim))


def use(case: Case, node: onnx.NodeProto, result: str, rank: int) -> None:
    """Add a node at the beginning, and an output that depends on it, so that nobody may drop it."""
    case.model.graph.node.insert(0, node)
    add_output(case, result, rank)


def add_output(case: Case, name: str, rank: int) -> None:
    shape = [f"{name}{axis}" for axis in range(rank)]
    case.model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def growth(case: Case) -> None:
    """Few nodes that compute a lot, of constants alone."""
    graph, random = case.model.graph, case.random
    huge = [int(case.pick((1 << 10, 1 << 20, 1 << 31, 1 << 40, 1 << 62))) for _ in range(int(random.integers(1, 4)))]
    graph.initializer.append(numpy_helper.from_array(np.array(huge, np.int64), "huge"))
    graph.initializer.append(numpy_helper.from_array(np.ones([1] * len(huge), np.float32), "unit"))
    kind = random.integers(6)
    if kind == 0:
        made = helper.make_node("ConstantOfShape", ["huge"], ["grown"])
    elif kind == 1:
        made = helper.make_node("Expand", ["unit", "huge"], ["grown"])
    elif kind == 2:
        made = helper.make_node("Tile", ["unit", "huge"], ["grown"])
    elif kind == 3:
        made = helper.make_node("RandomNormal", [], ["grown"], shape=huge)
    elif kind == 4:
        chain(case, "Concat", int(case.pick((8, 28, 34, 60))))
        return
    else:
        chain(case, "Add", int(case.pick((50, 1000))))
        return
    if case.chance(0.5):
        use(case, made, "grown", len(huge))
    else:
        graph.node.insert(0, made)
        reader = case.pick(list(graph.node))
        if reader.input:
            reader.input[int(random.integers(len(reader.input)))] = "grown"
    if case.chance(0.4):
        mark(case)


def chain(case: Case, operator: str, count: int) -> None:
    """Each node reads the one before it twice."""
    axis = {"axis": 0} if operator == "Concat" else {}
    first = numpy_helper.from_array(np.ones(4, np.float32), "c0")
    case.model.graph.initializer.append(first)
    for number in reversed(range(count)):
        node = helper.make_node(operator, [f"c{number}"] * 2, [f"c{number + 1}"], **axis)
        case.model.graph.node.insert(0, node)
    names = [f"c{count}"] if case.chance(0.5) else [f"c{number + 1}" for number in range(count)]
    for each in names:
        add_output(case, each, 1)
    if case.chance(0.6):
        mark(case, f"1:{count}")


def mark(case: Case, text: str | None = None) -> None:
    """The mark of a compressed file, on one that is none or with another count."""
    marks = ("1:0", "1:1", "1:3", "1:1000", "1:999999999", "2:3", "1:-1", "1", "", "1:3:4", "1:\x1b[31m")
    chosen = case.pick(marks) if text is None else text
    for entry in case.model.metadata_props:
        if entry.key == "sws_compress":
            entry.value = chosen
            return
    case.model.metadata_props.add(key="sws_compress", value=chosen)


def depth(case: Case) -> None:
    """Branches in branches, loops without end, and long chains."""
    graph, count = case.model.graph, int(case.pick((2, 10, 20, 28)))
    kind = case.random.integers(3)
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    if kind == 0:
        body = helper.make_graph([helper.make_node("Constant", [], ["o"], value_float=1.0)], "b", [], [_scalar("o")])
        for _ in range(count):
            node = helper.make_node("If", ["yes"], ["o"], then_branch=body, else_branch=body if count < 5 else _one())
            body = helper.make_graph([node], "b", [], [_scalar("o")])
        use(case, helper.make_node("If", ["yes"], ["deep"], then_branch=body, else_branch=_one()), "deep", 0)
    elif kind == 1:
        trips = np.array(case.pick((0, 3, 1 << 40, -1)), np.int64)
        graph.initializer.append(numpy_helper.from_array(trips, "trips"))
        graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
        inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, []),
                  helper.make_tensor_value_info("c", TensorProto.BOOL, []), _scalar("s")]  # fmt: skip
        steps = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["s"], ["t"])]
        body = helper.make_graph(
            steps, "b", inputs, [helper.make_tensor_value_info("d", TensorProto.BOOL, []), _scalar("t")]
        )
        use(case, helper.make_node("Loop", ["trips", "yes", "one"], ["looped"], body=body), "looped", 0)
    else:
        graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "k0"))
        for number in reversed(range(count * 5)):
            graph.node.insert(0, helper.make_node("Identity", [f"k{number}"], [f"k{number + 1}"]))
        graph.output.append(helper.make_tensor_value_info(f"k{count * 5}", TensorProto.FLOAT, [3]))


def _scalar(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [])


def _one() -> onnx.GraphProto:
    node = helper.make_node("Constant", [], ["o"], value_float=1.0)
    return helper.make_graph([node], "b", [], [_scalar("o")])


def odd_values(case: Case) -> None:
    """Strings, sequences and empty tensors where decoded tensors are expected."""
    graph, count = case.model.graph, int(case.random.integers(1, 3))
    kind = case.random.integers(4)
    if kind == 0:
        node = helper.make_node("Constant", [], ["odd"], value_strings=["a", "b"])
    elif kind == 1 and graph.initializer:
        node = helper.make_node("SequenceConstruct", [graph.initializer[0].name] * count, ["odd"])
    elif kind == 2:
        node = helper.make_node("Constant", [], ["odd"], value=numpy_helper.from_array(np.zeros((0, 4), np.float32)))
    else:
        node = helper.make_node("Constant", [], ["odd"], value_int=case.pick(SIZES))
    graph.node.insert(0, node)
    reader = case.pick(list(graph.node)[1:])
    if case.chance(0.5) and reader is not None and reader.input:
        reader.input[int(case.random.integers(len(reader.input)))] = "odd"
    else:
        add_output(case, "odd", int(case.random.integers(0, 3)))
    if case.chance(0.5):
        current = next((e.value for e in case.model.metadata_props if e.key == "sws_compress"), "1:0")
        known = current.partition(":")[2]
        mark(case, f"1:{int(known) + 1}" if known.isascii() and known.isdigit() and len(known) < 9 else "1:1")


def constants(case: Case) -> None:
    """An initialiser as a Constant node, an input, an output, or under a second name."""
    graph = case.model.graph
    tensor = case.pick(graph.initializer)
    if tensor is None:
        return
    kind = case.random.integers(4)
    if kind == 0:
        graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        graph.initializer.remove(tensor)
    elif kind == 1:
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    elif kind == 2:
        graph.output.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    else:
        graph.initializer.append(tensor)


MUTATIONS: tuple[tuple[Callable[[Case], None], float], ...] = (
    (dims, 2), (element_type, 1), (data, 1), (values, 3), (codes, 2), (external, 2), (sparse, 0.3), (attribute, 2),
    (name, 2), (edge, 2), (node_list, 1), (versions, 1), (interface, 2), (functions, 1.5), (growth, 1), (mark, 0.7),
    (depth, 0.5), (odd_values, 1), (constants, 1),
)  # fmt: skip
"""All mutations, and how often each is drawn."""


def mutate(case: Case, count: int) -> tuple[str, ...]:
    """Damage a case ``count`` times, in place; the names of what was done."""
    shares = np.array([share for _, share in MUTATIONS])
    done = []
    for number in case.random.choice(len(MUTATIONS), count, p=shares / shares.sum()):
        change = MUTATIONS[number][0]
        try:
            change(case)
            done.append(change.__name__)
        except Exception:  # what is damaged already does not take every change, nor messages 100 deep
            done.append(f"({change.__name__})")
    return tuple(done)
