"""Bases of Fourier transforms are computed in the file, whatever is done to the weights behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from scipy.signal import get_window

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights
from tests.onnx_io.models import fourier_basis

BASIS = fourier_basis(64, get_window("hann", 64))[:, None, :]


class Spectrogram(torch.nn.Module):
    """Magnitudes of a short-time Fourier transform, and a layer that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.from_numpy(BASIS))
        torch.manual_seed(0)
        self.layer = torch.nn.Conv1d(33, 100, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real, imaginary = torch.nn.functional.conv1d(x[:, None], self.basis, stride=16).chunk(2, dim=1)
        spectrum: torch.Tensor = self.layer((real**2 + imaginary**2 + 1e-6).sqrt()).relu().mean(dim=2)
        return spectrum


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "spectrogram.onnx"
    torch.onnx.export(Spectrogram().eval(), (torch.zeros(1, 400),), path, dynamo=True, external_data=False)
    return path


def sounds(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 1, 400)).astype(np.float32)


REQUESTS = {
    "to a quality": sws.WeightsOnly(),
    "components": sws.WeightsOnly(components=16),
    "with inputs": sws.Calibrated(inputs=list(sounds(40)), quality=25),
}


@pytest.mark.parametrize("way", REQUESTS)
def test_the_basis_takes_next_to_nothing_and_is_equal_to_rounding(model: Path, tmp_path: Path, way: str) -> None:
    result = sws.compress(model, tmp_path / "small.onnx", REQUESTS[way])
    (row,) = [row for row in result.tensors if row.shape == BASIS.shape]
    assert row.encoding == "progressions+scales"
    assert row.file_bytes < BASIS.nbytes / 12
    decoded = decoded_weights((tmp_path / "small.onnx").read_bytes(), [row.name])[row.name]
    assert np.abs(decoded - BASIS).max() < 3e-7
    assert result.output_error < 0.1


def test_sizes_are_met_beside_a_basis(model: Path, tmp_path: Path) -> None:
    """The basis is a quarter of the network, and takes 1 kB of the file."""
    result = sws.compress(model, tmp_path / "small.onnx", sws.Calibrated(inputs=list(sounds(40))), ratio=4)
    assert result.ratio == pytest.approx(4, rel=0.02)


def test_a_basis_that_was_trained_is_a_weight(model: Path, tmp_path: Path) -> None:
    network = onnx.load(model)
    (basis,) = [each for each in network.graph.initializer if tuple(each.dims) == BASIS.shape]
    noise = np.random.default_rng(0).standard_normal(BASIS.shape)
    basis.CopyFrom(numpy_helper.from_array((BASIS + 0.3 * noise).astype(np.float32), basis.name))
    onnx.save(network, tmp_path / "trained.onnx")
    result = sws.compress(tmp_path / "trained.onnx", tmp_path / "small.onnx")
    (row,) = [row for row in result.tensors if row.shape == BASIS.shape]
    assert row.encoding != "dense"
    assert "progressions" not in row.encoding


def test_trained_networks_keep_the_basis_too(tmp_path: Path) -> None:
    batches = [(torch.from_numpy(x), torch.zeros(1, 100)) for x in sounds(8)]
    request = sws.FineTuned(train=batches, loss=torch.nn.functional.mse_loss, epochs=1)
    result = sws.compress(
        Spectrogram(), tmp_path / "small.onnx", request, example_inputs=(torch.zeros(1, 400),), ratio=4
    )
    (row,) = [row for row in result.tensors if row.shape == BASIS.shape]
    assert row.encoding == "progressions+scales"
