"""The search finds the smallest file that its estimates promise, and writes out no more files than it may."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from sws_compress.onnx_io.write.serialise import emission_bytes
from sws_compress.packing import search
from sws_compress.packing.search import MEASURED_PER_PARTITION, emit, smallest_selection
from tests.onnx_io.models import lenet
from tests.packing.models import partitions_of

OPSET = 18
NETWORK = {"sizes": (116, 142, 133), "zeros": (0.8, 0.0), "seed": 89}
"""Two layers whose smallest selection is the third by estimate."""


def file_bytes(partition, selection):
    coded = {name for stream, _ in selection for name in stream.names}
    dense = sum(stream.dense_bytes for stream in partition if not coded >= set(stream.names))
    return dense + emission_bytes(emit(selection, OPSET))


@pytest.mark.parametrize("sizes", [(30, 40), (60, 20, 50)])
def test_it_is_the_smallest_of_all_where_all_can_be_written(sizes):
    """Against every combination of codes of every partition."""
    partitions = [
        [
            SimpleNamespace(
                names=stream.names,
                shapes=stream.shapes,
                dense_bytes=stream.dense_bytes,
                codes=tuple({code.encoding: code for code in stream.codes}.values())[:4],
            )
            for stream in partition
        ]
        for partition in partitions_of(lenet(sizes=sizes, zeros=(0.6, 0.9)))[1:]
    ]
    everything = []
    for partition in partitions:
        choices = [[(stream, code) for code in (None, *stream.codes)] for stream in partition]
        for combination in itertools.product(*choices):
            everything.append((partition, [pair for pair in combination if pair[1] is not None]))
    best = min(file_bytes(*pair) for pair in everything)
    assert file_bytes(partitions[0], smallest_selection(partitions, OPSET)) == best


def test_more_than_one_selection_must_be_measured():
    """A function that only one stream calls is written in place, which the estimate cannot know."""
    partitions = partitions_of(lenet(**NETWORK))
    sizes = [
        file_bytes(partitions[0], smallest_selection(partitions, OPSET, measured_per_partition=count))
        for count in (1, MEASURED_PER_PARTITION - 1, MEASURED_PER_PARTITION, 10)
    ]
    assert sizes[0] >= sizes[1] > sizes[2] + 100
    assert sizes[2] == sizes[3]


@pytest.mark.parametrize("count", [1, 2, MEASURED_PER_PARTITION])
def test_as_many_files_are_written_as_are_asked_for(count, monkeypatch):
    partitions, written = partitions_of(lenet(**NETWORK)), []
    monkeypatch.setattr(search, "emit", lambda selection, opset: written.append(selection) or emit(selection, opset))
    smallest_selection(partitions, OPSET, measured_per_partition=count)
    assert len(written) == count * len(partitions)


def test_tensors_stay_dense_where_no_code_is_smaller():
    partitions = partitions_of(lenet(sizes=(3, 2)))
    assert smallest_selection(partitions, OPSET) == []
