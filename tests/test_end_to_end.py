"""The whole way on real data: a pretrained LeNet-300-100 becomes 35 times smaller and stays as accurate."""

from __future__ import annotations

import os
from pathlib import Path

from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.demo import DATA
from sws_compress.demo.lenet import load_lenet
from sws_compress.demo.mnist import ShiftedBatches, Split, load_mnist
from sws_compress.demo.run import error_percent
from sws_compress.ort.decode import unfolded_nodes
from sws_compress.pipelines.source import dense_onnx
from sws_compress.train.distillation import Distillation
from sws_compress.train.sharing import Sharing
from tests.models import tuned


def test_lenet_is_35_times_smaller_and_as_good(tmp_path: Path) -> None:
    training, validation, _ = load_mnist(DATA / "mnist.npz")
    network = load_lenet(DATA / "lenet_300_100.npz")
    example = validation.images[:8].flatten(1)
    dense = tmp_path / "dense.onnx"
    dense.write_bytes(dense_onnx(network, (example,)))
    result = tuned(
        network,
        tmp_path / "small.onnx",
        train=ShiftedBatches(Split(training.images[:20_000], training.labels[:20_000]), 64),
        loss=cross_entropy,
        example_inputs=example,
        components=7,
        ratio=40,
        epochs=3,
        distillation=Distillation(),
        parameters=lambda name, parameter: True,
        sharing=Sharing.MODULE,
    )
    assert os.path.getsize(dense) / os.path.getsize(result.output) > 35
    assert error_percent(result.output, validation) < error_percent(dense, validation) + 1.0
    assert unfolded_nodes(result.output.read_bytes()) == ()
    assert sws.verify(dense, result.output, tolerance=1.0).passed
