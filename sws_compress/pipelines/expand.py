"""Compressed models turned into plain ones: decoders go, dense initialisers come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from sws_compress.errors import ModelError
from sws_compress.files import AnyPath, checked_output, draft, file_path
from sws_compress.onnx_io.external_data import StoredModel, is_external
from sws_compress.onnx_io.format.decoders import compressed_names, find_decoders
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, refuse_overwriting, stored_model
from sws_compress.onnx_io.write.external import LARGE_TENSOR_BYTES, DataFile, inline_bytes
from sws_compress.onnx_io.write.output import data_files, replace_output, write_draft
from sws_compress.onnx_io.write.plain import make_plain
from sws_compress.onnx_io.write.unblocked import blocked_left, computed_scales, expand_blocked, store_scales
from sws_compress.ort.all_weights import TOGETHER_ELEMENTS, decoded_parts
from sws_compress.ort.decode import decoded
from sws_compress.ort.session import Array, check_runs, check_sound
from sws_compress.ort.user_models import DECODABLE, callers_file
from sws_compress.pipelines.job import DEFAULT_LIMITS, Limits
from sws_compress.report.file_reports import ExpansionResult


def plain_model(
    model: StoredModel, data: DataFile, *, together_elements: int = TOGETHER_ELEMENTS
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Turn a compressed model into a plain one whose initialisers hold the decoded weights, bit for bit.

    Weights in few bits become the float32 values that the runtime multiplies by. Nothing stays of the decoders: no
    nodes, tables, functions, shapes or mark. The result can be compressed again.

    Parameters
    ----------
    model : StoredModel
        Its model is changed.
    data : DataFile
        Gets the large weights one after the other, and the external data of the model.
    together_elements : int
        Weights that are decoded together, in elements (`decoded_parts`).

    Returns
    -------
    plain : ModelProto
        The model; its large weights are in ``data``.
    expanded : tuple of str
        Names of the weights that were decoded.

    Raises
    ------
    ModelError
        If the model is not compressed.
    VerificationError
        If ONNX Runtime does not decode it.
    """
    proto = model.proto
    mark = mark_of_proto(proto)
    if mark is None:
        raise ModelError("model must be compressed to be expanded, got a plain one: use it as it is")
    names, decoders = compressed_names(proto, mark), find_decoders(proto, mark)
    weights: dict[str, onnx.TensorProto] = {}
    for part, _ in decoded_parts(model, decoders, names, together_elements=together_elements):
        while part:
            weight = part.pop()
            weights[weight.name] = _stored(weight.name, weight.values, data)
            del weight  # not to be held while the next one is decoded
    scales = computed_scales(proto)
    found = decoded(model, scales)
    blocked = expand_blocked(proto)
    make_plain(proto, mark, (weights[name] for name in names))
    store_scales(proto, {name: found[name] for name in scales if name not in names})
    for tensor in proto.graph.initializer:
        if is_external(tensor) and tensor.name not in weights:
            tensor.CopyFrom(data.add_initializer(tensor.name, tensor.data_type, model.load(tensor), tuple(tensor.dims)))
    return proto, (*names, *blocked)


def _check_graph(plain: onnx.ModelProto, data: DataFile, target: Path) -> None:
    """Check a large model without its weights: the checker reads a file whole, and ONNX Runtime keeps all weights."""
    with draft(target) as graph:
        write_draft(plain, data, graph, inline=False)
        check_sound(graph.path)


def _stored(name: str, values: Array, data: DataFile) -> onnx.TensorProto:
    """An initialiser that holds some values; those of `LARGE_TENSOR_BYTES` or more are in ``data``."""
    kind = ir.DataType.from_numpy(values.dtype)
    if values.nbytes < LARGE_TENSOR_BYTES:
        return numpy_helper.from_array(values, name)
    whole = kind.bitwidth >= 8
    stored = values if whole else np.frombuffer(ir.Tensor(values).tobytes(), np.uint8)  # NumPy has a byte for each
    return data.add_initializer(name, kind, stored, values.shape)


def expand(path: AnyPath, output: AnyPath) -> ExpansionResult:
    """Write a compressed file as a plain dense ONNX file.

    Weights become initialisers again, under the same names and bit for bit as the compressed file decodes them, those
    in few bits as float32. The result can be compressed again. Of a file that is packed in memory it holds integers,
    stored plainly.

    Parameters
    ----------
    path : str or path
        The compressed file.
    output : str or path
        Where the plain file goes.

    Returns
    -------
    ExpansionResult
        Sizes, and the names of the decoded weights.

    Raises
    ------
    ModelError
        If the file is no compressed model, or if it is damaged.
    OutputError
        If the output cannot be written, or if it is the input.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")
    >>> result = sws.compress("model.onnx", "small.onnx", sws.WeightsOnly(components=8))

    >>> sws.expand("small.onnx", "dense.onnx").expanded
    ('w',)
    """
    source, target = file_path("path", path), checked_output(output)
    model = stored_model(source)
    refuse_overwriting(source, target, *data_files(target))
    return expand_model(model, target)


def expand_model(
    model: StoredModel,
    target: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    together_elements: int = TOGETHER_ELEMENTS,
) -> ExpansionResult:
    """`expand` an opened model to ``target``; arguments as in `Limits` and `plain_model`."""
    source = model.path or Path()
    compressed_bytes = model.file_bytes if model.path is None else bytes_on_disk(model.path)
    with draft(target) as beside, draft(target) as file:
        data = DataFile(beside)
        with callers_file(source, *DECODABLE):
            plain, expanded = plain_model(model, data, together_elements=together_elements)
        inline = inline_bytes(plain) <= limits.file_bytes
        write_draft(plain, data, file, inline=inline)
        with callers_file(source, "become a sound model without its decoders", "the file is damaged"):
            if inline_bytes(plain) <= limits.model_bytes:
                check_runs(file.path)
            else:
                _check_graph(plain, data, target)
        replace_output(plain, data, file, inline=inline)
    left = blocked_left(plain)
    why = "they were in the original, or the file is packed in memory (--memory packed)"
    notes = (f"{left} products in few bits stay (MatMulNBits): {why}",) if left else ()
    return ExpansionResult(target, compressed_bytes, bytes_on_disk(target), expanded, notes)
