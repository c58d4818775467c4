"""Every encoding in the installed ONNX Runtime and in the reference evaluator of ``onnx``."""

from __future__ import annotations

import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from sws_compress.ort.decode import unfolded_nodes
from sws_compress.ort.session import session
from tests.runtimes.compare import assert_agrees, assert_stays_packed
from tests.runtimes.files import EMBEDDINGS, SOURCES, STREAMS, codes_of, files_of


@pytest.fixture(params=SOURCES, ids=[source.replace(" ", "-") for source in SOURCES])
def files(request):
    return files_of(request.param)


def test_no_encoding_is_left_out():
    """Every encoding is offered to some stream; a new encoding may need a stream of its own."""
    offered = {encoding for weights in STREAMS.values() for encoding in codes_of(weights)}
    dense = {"constant", "radix", "huffman", "strides", "buckets", "tunstall"}
    assert offered >= dense | {"sparse", "classes", "sparse+radix", "sparse+huffman"}
    assert any(encoding.endswith("masked") for encoding in offered)
    assert offered >= {"buckets, computed", "radix, multiples", "huffman, multiples", "buckets, multiples"}


def test_onnx_runtime(files):
    for file in files:
        runtime = session(file.data)
        names = [output.name for output in runtime.outputs]
        assert_agrees(file, dict(zip(names, runtime.run(file.feeds), strict=True)))


def test_onnx_runtime_folds_everything(files):
    for file in files:
        assert unfolded_nodes(file.data) == (), file.name


def test_onnx_runtime_keeps_packed_rows(tmp_path):
    for file in files_of(EMBEDDINGS):
        session(file.data, optimized_path=tmp_path / "optimized.onnx")
        assert_stays_packed(file, onnx.load(tmp_path / "optimized.onnx"))


def test_the_reference_evaluator(files):
    for file in files:
        evaluator = ReferenceEvaluator(onnx.load_from_string(file.data))
        assert_agrees(file, dict(zip(evaluator.output_names, evaluator.run(None, file.feeds), strict=True)))
