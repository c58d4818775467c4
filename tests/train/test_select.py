from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.train.select import default_weights, frozen_weights, select_parameters
from sws_compress.train.sharing import Sharing


class Mixed(nn.Module):
    """One of each kind of module, with a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.conv = nn.Conv1d(16, 16, 3)
        self.norm = nn.BatchNorm1d(300)
        self.lstm = nn.LSTM(16, 16, bidirectional=True)
        self.attention = nn.MultiheadAttention(16, 2)
        self.scale = nn.Parameter(torch.ones(500))
        self.head = nn.Linear(16, 40)
        self.head.weight = self.embed.weight
        self.small = nn.Linear(16, 3)


def names(model: nn.Module, **options: object) -> list[str]:
    return [name for group in select_parameters(model, **options) for name in group.names]


def test_defaults_take_weights_and_leave_norms_biases_and_small_ones() -> None:
    assert names(Mixed()) == [
        "embed.weight",
        "conv.weight",
        *(f"lstm.weight_{part}_l0{side}" for side in ("", "_reverse") for part in ("ih", "hh")),
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]
    assert "small.weight" in names(Mixed(), smallest=48)


class Custom(nn.Module):
    """Matrices that are in no layer of torch's own, and vectors in the shape of matrices."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.rand(4, size, size))
        self.again = self.experts
        self.scale = nn.Parameter(torch.ones(1, 300, 1, 1))
        self.spectrum = nn.Parameter(torch.rand(20, 20, dtype=torch.complex64))
        self.positions = nn.Parameter(torch.rand(1, 30, 10))
        self.norm = nn.LayerNorm((20, 20))
        self.head = nn.Linear(size, size)


@pytest.mark.parametrize("size", [20, 100])
def test_matrices_of_any_module_are_weights_however_small_their_share(size: int) -> None:
    assert names(Custom(size)) == ["experts", "positions", "head.weight"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_lengths_of_the_older_weight_norm_are_no_weights() -> None:
    model = nn.utils.weight_norm(nn.Linear(16, 300))
    assert default_weights(model, 256) == {"weight_v"}


def test_attention_with_projections_apart() -> None:
    chosen = names(nn.MultiheadAttention(16, 2, kdim=20, vdim=24))
    assert chosen == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


@pytest.mark.parametrize("alias", ["embed.weight", "head.weight"])
def test_tied_parameter_is_taken_once_by_either_name(alias: str) -> None:
    model = Mixed()
    (group,) = select_parameters(model, [alias])
    assert group.names == ("embed.weight",)
    assert group.parameters[0] is model.head.weight
    (both,) = select_parameters(model, ["embed.weight", "head.weight"])
    assert both.names == ("embed.weight",)


def test_tied_weight_under_a_module_of_another_type() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.rand(20, 16))
            self.head = nn.Linear(16, 20)
            self.head.weight = self.table

    assert names(Tied()) == ["table"]


def test_frozen_weights_are_left_out_and_predicates_choose() -> None:
    model = Mixed()
    model.conv.weight.requires_grad_(False)
    assert "conv.weight" not in names(model)
    assert list(frozen_weights(model)) == ["conv.weight"]
    assert list(frozen_weights(model, ["head.weight"])) == []
    assert names(model, parameters=lambda name, p: p.dim() == 1 and p.numel() == 500) == ["scale"]


def test_sharing() -> None:
    model = Mixed()
    assert len(select_parameters(model)) == 8
    by_module = select_parameters(model, sharing=Sharing.MODULE)
    assert [group.label for group in by_module] == ["embed", "conv", "lstm", "attention", "attention.out_proj"]
    assert len(by_module[2].names) == 4
    (whole,) = select_parameters(model, sharing=Sharing.MODEL)
    assert whole.elements == sum(group.elements for group in by_module)
    values = np.concatenate([p.detach().numpy().ravel() for p in whole.parameters])
    np.testing.assert_array_equal(whole.values(), values)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["conv.weight", "fc9.weight"], "got 'fc9.weight': known names start with scale, embed.weight"),
        ("conv.weight", "got 'conv.weight': put them in a list"),
        (["norm.weight"], "must be trainable, got 'norm.weight': leave it out and call cluster_frozen"),
    ],
)
def test_refuses_names(parameters: object, message: str) -> None:
    model = Mixed()
    model.norm.weight.requires_grad_(False)
    with pytest.raises(ArgumentError, match=message):
        select_parameters(model, parameters)


def test_nothing_left_to_compress() -> None:
    with pytest.raises(ModelError, match="at least 64 elements to compress, got none among 2 parameters"):
        select_parameters(nn.Linear(3, 5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_names_the_tensor_that_is_not_finite(value: float) -> None:
    model = Mixed()
    with torch.no_grad():
        model.conv.weight[2, 3, 1] = value
    with pytest.raises(ModelError, match=r"conv.weight must hold finite values, got 1 NaN or infinite of 768"):
        select_parameters(model)


def test_whole_numbers_are_refused() -> None:
    model = nn.Module()
    model.table = nn.Parameter(torch.randint(0, 9, (300,)).to(torch.complex64))
    with pytest.raises(ModelError, match="table must be floating point"):
        select_parameters(model, ["table"])


def test_devices_without_float64_are_refused() -> None:
    class OnMps(nn.Parameter):
        device = torch.device("mps")

    model = nn.Linear(30, 20)
    model.weight = OnMps(model.weight.detach())
    with pytest.raises(ArgumentError, match=r"weight must be on the CPU or a CUDA device, got mps: call model.cpu\(\)"):
        select_parameters(model)
