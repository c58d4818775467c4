"""Distillation of calibrated modules: the same bytes, closer outputs, and never anything that hurts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import sws_compress as sws
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines.tunable import moved_palette
from sws_compress.pipelines.twins import readouts_of
from sws_compress.quantize.palette import half_rounded
from sws_compress.train.output_distillation import Distilled, Distillery, Readout
from sws_compress.train.tuned_values import Members, TunedCodebook

Array = npt.NDArray[Any]


class Classifier(nn.Module):
    """Layers with and without norms; what is read out is a softmax if wanted."""

    def __init__(self, *, softmax: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(40, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8)
        )
        self.softmax = softmax
        norm = self.layers[1]
        assert isinstance(norm, nn.BatchNorm1d)
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.2, 0.2)
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.1, 0.4)
            self.layers[5].weight.mul_(4)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(x)
        return scores.softmax(-1) if self.softmax else scores


def spectra(count: int, seed: int) -> torch.Tensor:
    random, mixing = np.random.default_rng(seed), np.random.default_rng(7).standard_normal((10, 40))
    return torch.from_numpy((np.abs(random.standard_normal((count, 10))) @ mixing).astype(np.float32))


def compressed(network: nn.Module, path: Path, *, x: torch.Tensor | None = None, **options: Any) -> Any:
    """A calibrated file; ``options`` are those of the request, and of the call where they are its own."""
    own = {name: options.pop(name) for name in ("max_drop", "evaluate", "seed") if name in options}
    inputs = spectra(160, seed=1) if x is None else x
    goal = {} if own else {"ratio": 5.0}
    return sws.compress(
        network, path, sws.Calibrated(inputs=[inputs], **options), example_inputs=inputs[:2], **goal, **own
    )


def error_of(network: nn.Module, path: Path) -> float:
    """Relative error of the file on inputs that calibration has not seen."""
    inputs = spectra(400, seed=9)
    (name,) = [value.name for value in from_torch(network, (inputs[:2],)).graph.inputs]
    with torch.no_grad():
        wanted = network(inputs).numpy()
    (found,) = run_model(path, {name: inputs.numpy()}).values()
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A network without and with distillation."""
    folder = tmp_path_factory.mktemp("files")
    plain = compressed(Classifier(), folder / "plain.onnx", distillation=False)
    return plain, compressed(Classifier(), folder / "distilled.onnx")


def test_outputs_come_closer_in_as_many_bytes(files: tuple[Any, Any]) -> None:
    plain, found = files
    assert found.file_bytes == pytest.approx(plain.file_bytes, rel=2e-3)
    errors = [error_of(Classifier(), result.output) for result in (plain, found)]
    assert errors[1] < 0.97 * errors[0]
    assert found.score_error < 0.97 * plain.score_error
    (note,) = [note for note in found.notes if note.startswith("distillation took the error")]
    assert not [note for note in plain.notes if "distillation" in note]
    assert note.endswith("steps")


def test_the_copy_of_the_module_is_the_file(files: tuple[Any, Any]) -> None:
    _, found = files
    inputs = spectra(20, seed=3)
    with torch.no_grad():
        wanted = found.network(inputs).numpy()
    (has,) = run_model(found.output, {"x": inputs.numpy()}).values()
    np.testing.assert_allclose(has, wanted, atol=1e-4 * np.abs(wanted).max())


def test_assignments_stay(files: tuple[Any, Any]) -> None:
    """Every weight has the entry that it had; entries and scales have moved, and so have norms and biases."""
    plain, found = (
        {name: parameter.detach() for name, parameter in result.network.named_parameters()} for result in files
    )
    for name in plain:
        if plain[name].dim() < 2:
            assert not torch.equal(plain[name], found[name])
            continue
        for before, after in zip(plain[name], found[name], strict=True):
            pairs = set(zip(before.tolist(), after.tolist(), strict=True))
            assert len(pairs) == len({one for one, _ in pairs})
            assert all((one == 0) == (other == 0) for one, other in pairs)


def test_the_same_seed_makes_the_same_file(files: tuple[Any, Any], tmp_path: Path) -> None:
    again = compressed(Classifier(), tmp_path / "again.onnx")
    assert again.output.read_bytes() == files[1].output.read_bytes()


def test_what_does_not_help_in_the_runtime_is_not_kept(
    files: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is judged by itself: whatever torch believes, a file with larger errors is not written."""

    def spoil(self: Distillery, *arguments: Any) -> Distilled:
        for tuned in self._tuned:
            for move in tuned.moves:
                move.fill_(0.2)
        return Distilled(steps=1, before=1.0, after=0.0)

    monkeypatch.setattr(Distillery, "run", spoil)
    result = compressed(Classifier(), tmp_path / "spoiled.onnx")
    assert result.output.read_bytes() == files[0].output.read_bytes()
    assert result.score_error == files[0].score_error
    assert any(note.startswith("distillation was not kept: the outputs") for note in result.notes)


def test_a_metric_that_falls_too_far_takes_the_distillation_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, waiting = Classifier(), [False]
    run = Distillery.run

    def told(self: Distillery, *arguments: Any) -> Distilled:
        waiting[0] = True
        return run(self, *arguments)

    def metric(asked: nn.Module) -> float:
        """1, but 0 for the first other network after a distillation."""
        if not waiting[0] or asked is network:
            return 1.0
        waiting[0] = False
        return 0.0

    monkeypatch.setattr(Distillery, "run", told)
    result = compressed(network, tmp_path / "small.onnx", max_drop=0.5, evaluate=metric)
    assert (result.before, result.after) == (1.0, 1.0)
    assert "distillation was not kept: the metric falls" in result.notes


def test_probabilities_are_distilled_by_their_scores(tmp_path: Path) -> None:
    network = Classifier(softmax=True)
    assert readouts_of(from_torch(network, (spectra(2, 0),))) == [Readout("Softmax", -1)]
    plain = compressed(network, tmp_path / "plain.onnx", distillation=False)
    found = compressed(network, tmp_path / "small.onnx")
    assert found.score_error < 0.97 * plain.score_error


class Sequence(nn.Module):
    """Weights that the exporter stores otherwise: transposed, and as gates in another order, of two directions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.cell = nn.Linear(20, 24), nn.LSTM(24, 24, bidirectional=True, batch_first=True)
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.norm(self.cell(torch.tanh(self.first(x)))[0]))
        return y


def test_weights_in_another_order_move_in_their_places(tmp_path: Path) -> None:
    network, x = Sequence().eval(), torch.randn(96, 5, 20, generator=torch.Generator().manual_seed(1))
    plain = compressed(network, tmp_path / "plain.onnx", x=x, distillation=False)
    found = compressed(network, tmp_path / "small.onnx", x=x)
    assert found.score_error < 0.98 * plain.score_error
    assert found.file_bytes == pytest.approx(plain.file_bytes, rel=5e-3)
    with torch.no_grad():
        wanted = found.network(x[:4]).numpy()
    np.testing.assert_allclose(
        run_model(found.output, {"x": x[:4].numpy()})["output"], wanted, atol=1e-4 * np.abs(wanted).max()
    )
    weight, before = found.network.norm.weight, network.norm.weight
    assert torch.equal(weight, before)  # all ones: they cost nothing in the file as long as they stay


def test_weights_that_the_module_computes_stay(tmp_path: Path) -> None:
    network = Classifier()
    torch.nn.utils.parametrizations.weight_norm(network.layers[3])
    plain = compressed(network, tmp_path / "plain.onnx", distillation=False)
    found = compressed(network, tmp_path / "small.onnx")
    assert any(note.startswith("distillation ") for note in found.notes)
    assert found.score_error <= plain.score_error


class Ungraded(Classifier):
    """A module that refuses gradients."""

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def test_modules_without_gradients_are_left_alone_and_said_so(files: tuple[Any, Any], tmp_path: Path) -> None:
    result = compressed(Ungraded(), tmp_path / "small.onnx")
    assert any(note.startswith("distillation was left out: ") for note in result.notes)
    assert result.output.read_bytes() == files[0].output.read_bytes()


@pytest.mark.parametrize("half", [True, False])
def test_numbers_keep_their_formats(half: bool) -> None:
    codebook, scales = np.float32([-1.3, 0, 0.7]), np.float32([0.3, 2.1])
    if half:
        codebook, scales = half_rounded(codebook), half_rounded(scales)
    indices = np.uint8([0, 1, 2, 2, 0, 1])
    palette = sws.Palette(codebook, indices, (2, 3), sws.ChannelScales(scales, axis=0))
    held = Members(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3, dtype=torch.int32))
    tuned = TunedCodebook(codebook, scales, [held])
    for move in tuned.moves:
        move.fill_(0.01)
    found = moved_palette(palette, tuned)
    assert found.scales is not None
    for before, after in ((palette.codebook, found.codebook), (scales, found.scales.values)):
        assert not np.array_equal(before, after)
        assert np.array_equal(half_rounded(after), after) is half
    assert found.indices is palette.indices


def test_entries_that_would_meet_stay() -> None:
    palette = sws.Palette(np.float32([0, 1, 1.5]), np.uint8([0, 1, 2, 2]), (2, 2))
    tuned = TunedCodebook(palette.codebook, None, [Members(torch.zeros(2, 2), torch.zeros(2, 2).int(), None)])
    tuned.moves[0].copy_(torch.tensor([0, 2.0, 0]))
    assert moved_palette(palette, tuned).codebook.tolist() == [0, 1, 1.5]
