"""Graphs that are filled with the weights of copies are those that exporting the copies makes."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.file_options import FileOptions
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.onnx_io.write.serialise import plain_bytes
from sws_compress.pipelines import moved_parameters, projected
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.moved_parameters import filling_of
from sws_compress.pipelines.projected import Template
from sws_compress.pipelines.source import Source, open_module


class Reader(nn.Module):
    """A recurrent layer of two directions, whose gates the exporter puts together."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.recurrent, self.head = kind(5, 6, batch_first=True, bidirectional=True), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


class Attention(nn.Module):
    """Two layers whose norms are alike as long as they are new."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(x).mean(1)


class Absolute(nn.Module):
    """Weights that the network uses without their sign, and one that it uses as it is."""

    def __init__(self, bent) -> None:
        super().__init__()
        self.weight, self.plain, self.bent = nn.Parameter(torch.rand(5, 5) + 0.1), nn.Linear(5, 5), bent

    def forward(self, x):
        return self.plain(x @ self.bent(self.weight))


def normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten())


def source_of(network: nn.Module, *inputs: torch.Tensor, tmp_path) -> Source:
    return open_module(network.eval(), Job(output=tmp_path / "small.onnx", inputs=inputs))


def changed(network: nn.Module) -> nn.Module:
    """A copy with other weights, negative ones among them, and few distinct ones."""
    other, draw = copy.deepcopy(network), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.is_floating_point():
                tensor.copy_((2 * torch.randn(tensor.shape, generator=draw)).round() / 2 + 0.25)
    return other


PICTURES = torch.ones(2, 1, 7, 7)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (Reader(nn.GRU), torch.ones(2, 4, 5)),
        (Attention(), torch.ones(2, 4, 8)),
        (normed(), PICTURES),
        (nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 2)), torch.ones(2, 5)),
    ],
    ids=["gru", "attention", "fresh norms", "linear"],
)
def test_a_filled_graph_is_the_graph_of_an_export(network, inputs, tmp_path):
    source, other = source_of(network, inputs, tmp_path=tmp_path), changed(network)
    filling = filling_of(source, ())
    assert filling is not None
    filled = filling.of(other)
    assert filled is not None
    assert plain_bytes(filled) == plain_bytes(from_torch(other, source.examples))


@pytest.mark.parametrize("bent", [torch.abs, lambda w: 2 * w], ids=["same values", "other values"])
def test_what_is_computed_from_parameters_is_no_move_even_where_it_changes_none_of_them(bent, tmp_path):
    network = Absolute(bent)
    source, other = source_of(network, torch.ones(2, 5), tmp_path=tmp_path), changed(network)
    assert filling_of(source, ()) is None
    model = Template(source, FileOptions(), ()).model_of(other)
    assert plain_bytes(model) == plain_bytes(from_torch(other, source.examples))


def test_a_network_that_differs_in_what_the_graph_holds_fixed_is_exported_anew(tmp_path):
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("order", torch.tensor([1, 0, 3, 2]))

        def forward(self, x):
            return self.linear(x)[:, self.order]

    network = Shuffled()
    source, other = source_of(network, torch.ones(2, 4), tmp_path=tmp_path), changed(network)
    other.order.copy_(torch.tensor([0, 1, 2, 3]))
    filling = filling_of(source, ())
    assert filling is not None
    assert filling.of(network) is not None
    assert filling.of(other) is None


def test_measuring_does_not_export(tmp_path, monkeypatch):
    network = Reader(nn.GRU)
    template = Template(source_of(network, torch.ones(2, 4, 5), tmp_path=tmp_path), FileOptions(), ())
    template.packed(network)
    for module in (moved_parameters, projected):
        monkeypatch.setattr(module, "from_torch", None)
    assert template.packed(changed(network))[0].data != template.packed(network)[0].data


def test_marks_tell_their_numbers_and_no_others():
    marks = moved_parameters._marks(0, 100_000)
    assert len(np.unique(marks)) == len(marks)
    assert np.isfinite(marks.view(np.float32)).all()
    assert 0.4 < (marks.view(np.float32) < 0).mean() < 0.6
    np.testing.assert_array_equal(moved_parameters._marks(70, 30), marks[70:100])
    np.testing.assert_array_equal(moved_parameters._numbers_of(marks.view(np.float32), 90_000)[:90_000], range(90_000))
    others = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, *marks[90_000:].view(np.float32)], np.float32)
    assert (moved_parameters._numbers_of(others, 90_000) == -1).all()
