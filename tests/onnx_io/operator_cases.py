"""One node each: operators with the forms that the table of ``to_torch`` covers, and inputs for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
OPSET = 21


@dataclass(frozen=True, eq=False)
class Case:
    """A node; inputs of floating-point type are the model's, integers are constants. None is left out."""

    operator: str
    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = OPSET

    @property
    def name(self) -> str:
        shapes = "-".join("x".join(map(str, each.shape)) for each in self.inputs if each is not None)
        texts = [f"{key}={value}" for key, value in self.attributes.items() if not isinstance(value, onnx.TensorProto)]
        return " ".join([self.operator, shapes, *texts])

    @property
    def feeds(self) -> dict[str, Array]:
        return {
            f"x{number}": each
            for number, each in enumerate(self.inputs)
            if each is not None and each.dtype.kind in "fb" and each.ndim
        }

    @property
    def model(self) -> onnx.ModelProto:
        names = ["" if each is None else f"x{number}" for number, each in enumerate(self.inputs)]
        node = helper.make_node(self.operator, names, [f"y{number}" for number in range(self.outputs)])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in self.attributes.items())
        feeds = self.feeds
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ]
        constants = [
            numpy_helper.from_array(each, f"x{number}")
            for number, each in enumerate(self.inputs)
            if each is not None and f"x{number}" not in feeds
        ]
        outputs = [helper.make_empty_tensor_value_info(f"y{number}") for number in range(self.outputs)]
        graph = helper.make_graph([node], "case", inputs, outputs, constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True)


_RANDOM = np.random.default_rng(0)


def _real(*shape: int) -> Array:
    return _RANDOM.standard_normal(shape).astype(np.float32)


def _positive(*shape: int) -> Array:
    return _RANDOM.uniform(0.1, 0.9, shape).astype(np.float32)


def _whole(*values: int) -> Array:
    return np.array(values, np.int64)


def elementwise() -> Iterator[Case]:
    anywhere = (
        *("Abs", "Asinh", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Mish", "Neg"),
        *("Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh", "IsNaN", "IsInf"),
        *("Celu", "Elu", "HardSigmoid", "LeakyRelu", "Selu", "ThresholdedRelu", "Gelu"),
    )
    for operator in anywhere:
        yield Case(operator, [3 * _real(3, 5)])
    for operator in ("Acos", "Asin", "Atanh", "Log", "Reciprocal", "Sqrt"):
        yield Case(operator, [_positive(3, 5)])
    yield Case("Acosh", [1 + _positive(3, 5)])
    yield Case("Round", [np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)])
    for operator in ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu"):
        yield Case(operator, [_real(3, 5)], {"alpha": 0.3})
    yield Case("HardSigmoid", [_real(3, 5)], {"alpha": 0.3, "beta": 0.4})
    yield Case("Selu", [_real(3, 5)], {"alpha": 1.5, "gamma": 1.1})
    yield Case("Gelu", [_real(3, 5)], {"approximate": "tanh"})
    yield Case("Swish", [_real(3, 5)], {"alpha": 1.5}, opset=24)
    infinite = np.array([np.inf, -np.inf, 0, np.nan], np.float32)
    yield Case("IsInf", [infinite], {"detect_negative": 0})
    yield Case("IsInf", [infinite], {"detect_positive": 0})
    for operator in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum"):
        yield Case(operator, [_real(4, 1, 5), 2 + _positive(3, 1)])
    for operator in ("Max", "Min", "Mean", "Sum"):
        yield Case(operator, [_real(2, 3), _real(3), _real(2, 1)])
    for operator in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        yield Case(operator, [_real(3, 5).round(), _real(3, 5).round()])
    for operator in ("And", "Or", "Xor"):
        yield Case(operator, [_real(3, 5) > 0, _real(5) > 0])
    yield Case("Not", [_real(3, 5) > 0])
    yield Case("Div", [_whole(7, -7, 9, -9), _whole(2, 2, -4, -4)])
    yield Case("BitwiseNot", [_whole(5, -3)])
    for fmod in (0, 1):
        yield Case("Mod", [_whole(7, -7, 9, -9), _whole(2, 3, -4, -4)], {"fmod": fmod})
    yield Case("Mod", [3 * _real(3, 5), _positive(5)], {"fmod": 1})
    yield Case("Pow", [_positive(3, 5), _real(5)])
    yield Case("Pow", [_real(3, 5), np.array(2, np.int64)])
    yield Case("Pow", [_real(3, 5), np.array(3, np.float32)])
    bounds = [np.array(value, np.float32) for value in (-0.5, 0.5)]
    yield Case("Clip", [_real(3, 5), *bounds])
    yield Case("Clip", [_real(3, 5), None, bounds[1]])
    yield Case("Clip", [_real(3, 5), bounds[0]])
    yield Case("Clip", [_real(3, 5)])
    yield Case("PRelu", [_real(2, 3, 4), _real(3, 1)])
    yield Case("Where", [_real(3, 5) > 0, _real(5), _real(3, 1)])
    for number in (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL):
        yield Case("Cast", [3 * _real(3, 5).round()], {"to": number})
    yield Case("CastLike", [_whole(1, 2, 3), _real(2)])
    yield Case("Dropout", [_real(3, 5)])


def reductions() -> Iterator[Case]:
    names = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    for operator in (f"Reduce{name}" for name in names):
        yield Case(operator, [_positive(2, 3, 4)])
        yield Case(operator, [_positive(2, 3, 4), _whole(1)], {"keepdims": 0})
        yield Case(operator, [_positive(2, 3, 4), _whole(0, -1)])
        yield Case(operator, [_positive(2, 3, 4), _whole()], {"noop_with_empty_axes": 1})
    yield Case("ReduceMean", [_real(2, 3, 4)], {"axes": [1, 2]}, opset=13)
    yield Case("ReduceMax", [_whole(3, 1, 2)], {"keepdims": 0})
    for operator in ("ArgMax", "ArgMin"):
        for axis in (0, -1):
            yield Case(operator, [_real(4, 5).round()], {"axis": axis})
        yield Case(operator, [_real(4, 5).round()], {"axis": 1, "keepdims": 0, "select_last_index": 1})
    for largest in (0, 1):
        yield Case("TopK", [_real(4, 9).round(), _whole(5)], {"largest": largest}, outputs=2)
    yield Case("TopK", [_real(4, 3), _whole(2)], {"axis": 0}, outputs=2)
    for exclusive in (0, 1):
        for reverse in (0, 1):
            yield Case("CumSum", [_real(3, 4), np.array(1, np.int64)], {"exclusive": exclusive, "reverse": reverse})


def normalisers() -> Iterator[Case]:
    yield Case("BatchNormalization", [_real(2, 3, 4, 5), _real(3), _real(3), _real(3), _positive(3)])
    yield Case("BatchNormalization", [_real(2, 3), _real(3), _real(3), _real(3), _positive(3)], {"epsilon": 0.1})
    yield Case("InstanceNormalization", [_real(2, 3, 4, 5), _real(3), _real(3)], {"epsilon": 0.01})
    yield Case("GroupNormalization", [_real(2, 6, 4), _real(6), _real(6)], {"num_groups": 3})
    yield Case("GroupNormalization", [_real(2, 6, 4), _real(3), _real(3)], {"num_groups": 3}, opset=18)
    yield Case("LayerNormalization", [_real(2, 3, 4), _real(4), _real(4)])
    yield Case("LayerNormalization", [_real(2, 3, 4), _real(3, 4)], {"axis": 1, "epsilon": 0.01}, outputs=3)
    yield Case("RMSNormalization", [_real(2, 3, 4), _real(4)], {"epsilon": 0.01}, opset=23)
    for p in (1, 2):
        yield Case("LpNormalization", [_real(2, 3, 4)], {"axis": 1, "p": p})
    for size in (1, 3, 11):
        yield Case("LRN", [_real(2, 5, 4, 3)], {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 2.0})
    for operator in ("Softmax", "LogSoftmax"):
        yield Case(operator, [_real(2, 3, 4)])
        yield Case(operator, [_real(2, 3, 4)], {"axis": 1})


def products() -> Iterator[Case]:
    yield Case("MatMul", [_real(2, 3, 4), _real(4, 5)])
    yield Case("MatMul", [_real(4), _real(2, 4, 5)])
    yield Case("Gemm", [_real(3, 4), _real(4, 5)])
    yield Case("Gemm", [_real(4, 3), _real(5, 4), _real(5)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0})
    yield Case("Einsum", [_real(2, 3, 4), _real(2, 5, 4)], {"equation": "bij, bkj -> bik"})
    yield Case("Einsum", [_real(2, 3, 4)], {"equation": "...ij->...ji"})


def windows() -> Iterator[Case]:
    yield Case("Conv", [_real(2, 3, 9), _real(4, 3, 3)])
    yield Case("Conv", [_real(2, 3, 9, 8), _real(4, 3, 3, 2), _real(4)], {"pads": [1, 0, 1, 0], "strides": [2, 1]})
    yield Case("Conv", [_real(2, 4, 9, 8), _real(4, 1, 3, 3)], {"pads": [2, 1, 0, 1], "group": 4, "dilations": [1, 2]})
    yield Case("Conv", [_real(1, 2, 5, 6, 4), _real(3, 2, 2, 2, 2)])
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield Case("Conv", [_real(1, 2, 9, 8), _real(3, 2, 4, 3)], {"auto_pad": mode, "strides": [2, 1]})
    weight = _real(3, 2, 3, 4)
    yield Case("ConvTranspose", [_real(2, 3, 5), _real(3, 2, 3), _real(2)])
    yield Case("ConvTranspose", [_real(2, 3, 5, 4), weight], {"strides": [2, 3], "pads": [1, 0, 0, 2]})
    yield Case("ConvTranspose", [_real(2, 3, 5, 4), weight, _real(2)], {
        "strides": [2, 3], "pads": [0, 1, 0, 1], "output_padding": [1, 2]
    })  # fmt: skip
    yield Case("ConvTranspose", [_real(2, 4, 5, 4), _real(4, 2, 2, 2)], {"group": 2, "dilations": [2, 1]})
    yield Case("ConvTranspose", [_real(1, 3, 5, 4), weight], {"strides": [2, 2], "output_shape": [10, 9]})
    for mode in ("SAME_UPPER", "SAME_LOWER"):
        yield Case("ConvTranspose", [_real(1, 3, 5, 4), weight], {"strides": [2, 2], "auto_pad": mode})
    forms: list[dict[str, Any]] = [
        {"kernel_shape": [3, 2]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ]
    for form in forms:
        yield Case("MaxPool", [_real(2, 3, 9, 8)], form)
        for include in (0, 1):
            yield Case("AveragePool", [_real(2, 3, 9, 8)], {**form, "count_include_pad": include})
    yield Case("MaxPool", [_real(2, 3, 9, 8)], {"kernel_shape": [2, 2], "dilations": [2, 1]})
    yield Case("MaxPool", [_real(2, 3, 9)], {"kernel_shape": [2]})
    yield Case("AveragePool", [_real(2, 3, 5, 6, 7)], {"kernel_shape": [2, 2, 2]})
    for operator in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Case(operator, [_real(2, 3, 4, 5)])


def shapes() -> Iterator[Case]:
    x = _real(2, 3, 4)
    yield Case("Shape", [x])
    yield Case("Shape", [x], {"start": 1, "end": -1})
    yield Case("Size", [x])
    yield Case("Reshape", [x, _whole(0, -1, 2)])
    yield Case("Reshape", [_real(0, 3), _whole(3, 0)], {"allowzero": 1})
    for axis in (0, 1, -1, 3):
        yield Case("Flatten", [x], {"axis": axis})
    yield Case("Squeeze", [_real(1, 3, 1)])
    yield Case("Squeeze", [_real(1, 3, 1), _whole(-1)])
    yield Case("Unsqueeze", [x, _whole(0, -1)])
    yield Case("Transpose", [x])
    yield Case("Transpose", [x], {"perm": [1, 2, 0]})
    yield Case("Concat", [x, _real(2, 1, 4)], {"axis": 1})
    yield Case("Split", [_real(7, 2)], {"num_outputs": 3}, outputs=3)
    yield Case("Split", [_real(2, 7), _whole(3, 4)], {"axis": -1}, outputs=2)
    yield Case("Split", [_real(6, 2)], outputs=2, opset=13)
    yield Case("Slice", [_real(9, 8), _whole(1, -7), _whole(-1, 1000), _whole(0, 1), _whole(2, 3)])
    yield Case("Slice", [_real(9, 8), _whole(-1), _whole(-1000), _whole(1), _whole(-2)])
    yield Case("Slice", [_real(9, 8), _whole(7), _whole(2), _whole(0), _whole(-1)])
    yield Case("Slice", [_real(9, 8), _whole(2), _whole(5)])
    yield Case("Gather", [x, np.array([[0, -1], [1, 2]], np.int64)], {"axis": 1})
    yield Case("Gather", [x, np.array(1, np.int64)])
    yield Case("Gather", [_real(5, 3), np.array([[0, -1], [3, 3]], np.int64)])
    yield Case("Gather", [x, np.array([1, 0], np.int32)])
    yield Case("GatherElements", [_real(3, 4), np.array([[0, -1], [1, 3]], np.int64)], {"axis": 1})
    yield Case("GatherND", [x, np.array([[0, -1], [1, 2]], np.int64)])
    yield Case("GatherND", [x, np.array([[0], [2]], np.int64)], {"batch_dims": 1})
    places, updates = np.array([[0, -1], [1, 3]], np.int64), _real(2, 2)
    for reduction in ("none", "add"):
        yield Case("ScatterElements", [_real(3, 4), places, updates], {"axis": 1, "reduction": reduction})
        yield Case("ScatterND", [x, np.array([[0, 1], [1, -1]], np.int64), _real(2, 4)], {"reduction": reduction})
    yield Case("Expand", [_real(3, 1), _whole(2, 1, 4)])
    yield Case("Tile", [_real(3, 2), _whole(2, 3)])
    yield Case("ConstantOfShape", [_whole(2, 3)])
    yield Case("ConstantOfShape", [_whole(2, 3)], {"value": numpy_helper.from_array(_whole(5))})
    yield Case("Range", [np.array(each, np.int64) for each in (3, 17, 4)])
    yield Case("Range", [np.array(each, np.float32) for each in (3, -1, -0.3)])
    for axis in (-1, 0, 1):
        yield Case("OneHot", [np.array([[0, -1], [2, 1]], np.int64), np.array([4], np.int64), _real(2)], {"axis": axis})
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield Case("Pad", [_real(4, 5), _whole(1, 0, 2, 3)], {"mode": mode})
        yield Case("Pad", [_real(3, 4, 5), _whole(2, 1), None, _whole(-1)], {"mode": mode})
    for mode in ("reflect", "edge"):
        yield Case("Pad", [_real(4, 5), _whole(1, -1, -2, 3)], {"mode": mode})
    yield Case("Pad", [_real(4, 5), _whole(1, -1, -2, 3), np.array(0.5, np.float32)])
    for mode in ("DCR", "CRD"):
        yield Case("DepthToSpace", [_real(2, 12, 3, 4)], {"blocksize": 2, "mode": mode})
    yield Case("SpaceToDepth", [_real(2, 3, 4, 6)], {"blocksize": 2})
    for upper in (0, 1):
        yield Case("Trilu", [_real(2, 4, 5), np.array(1, np.int64)], {"upper": upper})
    yield Case("Trilu", [_real(4, 5)])
    yield Case("NonZero", [_real(4, 5).round()])


def resizes() -> Iterator[Case]:
    x = _real(1, 2, 5, 7)
    modes = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    for places in modes:
        for mode in ("nearest", "linear", "cubic"):
            form = {"mode": mode, "coordinate_transformation_mode": places}
            yield Case("Resize", [x, None, None, _whole(1, 2, 11, 4)], form)
            yield Case("Resize", [x, None, np.array([1, 1, 1.7, 0.7], np.float32)], form)
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        yield Case("Resize", [x, None, np.array([1, 1, 2, 0.5], np.float32)], {"nearest_mode": nearest})
    yield Case("Resize", [x, None, None, _whole(1, 2, 11, 4)], {"mode": "cubic", "exclude_outside": 1})
    yield Case("Resize", [x, None, None, _whole(1, 2, 11, 4)], {"mode": "cubic", "cubic_coeff_a": -0.5})
    yield Case("Resize", [x, None, None, _whole(10, 14)], {"axes": [2, 3], "mode": "linear"})


def recurrent() -> Iterator[Case]:
    for operator, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            form: dict[str, Any] = {"hidden_size": 5, "direction": direction}
            if operator == "GRU":
                form["linear_before_reset"] = 1
            weights = [_real(count, gates * 5, 3), _real(count, gates * 5, 5)]
            outputs = 3 if operator == "LSTM" else 2
            yield Case(operator, [_real(6, 2, 3), *weights], form, outputs=outputs)
            states = [_real(count, 2, 5) for _ in range(outputs - 1)]
            yield Case(operator, [_real(6, 2, 3), *weights, _real(count, gates * 10), None, *states], form, outputs)
    parts = [_real(6, 2, 3), _real(1, 15, 3), _real(1, 15, 5), _real(1, 30), np.array([6, 6], np.int32), _real(1, 2, 5)]
    yield Case("GRU", parts, {"hidden_size": 5}, outputs=2)


CASES = [
    case
    for family in (elementwise, reductions, normalisers, products, windows, shapes, resizes, recurrent)
    for case in family()
]
