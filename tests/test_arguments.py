"""Numbers that are none, and functions that cannot be called: one line when they are given, not after an hour."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.integrations.lightning import SoftWeightSharingCallback as InLightning
from sws_compress.integrations.transformers import SoftWeightSharingCallback as InTransformers
from sws_compress.requests import Goal

BATCHES = [(torch.zeros(4, 20), torch.zeros(4, dtype=torch.long))]


def request(**settings: Any) -> sws.FineTuned:
    return sws.FineTuned(train=BATCHES, loss=cross_entropy, **settings)


def prior(**settings: Any) -> sws.SoftWeightSharing:
    net = nn.Linear(40, 30)
    return sws.SoftWeightSharing(net, torch.optim.SGD(net.parameters(), 0.1), **settings)


def compressed(**settings: Any) -> Any:
    return sws.compress(nn.Linear(20, 30), "small.onnx", **{"example_inputs": torch.zeros(2, 20), **settings})


NUMBERS: list[tuple[Callable[..., Any], str]] = [
    (sws.WeightsOnly, "quality"),
    (sws.WeightsOnly, "components"),
    (lambda **settings: sws.Calibrated(inputs="x.npz", **settings), "quality"),
    (sws.LowBit, "bits"),
    (sws.LowBit, "block_size"),
    (sws.Vectors, "length"),
    (sws.PerBlock, "size"),
    (request, "components"),
    (request, "epochs"),
    (request, "learning_rate"),
    (request, "bias_components"),
    (request, "bit_price"),
    (sws.Distillation, "weight"),
    (sws.Distillation, "temperature"),
    (sws.Schedule, "soft_until"),
    (sws.Schedule, "hard_every"),
    (prior, "components"),
    (prior, "coded_ratio"),
    (prior, "bit_price"),
    (prior, "total_steps"),
    (InTransformers, "components"),
    (InTransformers, "coded_ratio"),
    (InLightning, "components"),
    (InLightning, "bit_price"),
    (compressed, "ratio"),
    (compressed, "target_bytes"),
    (compressed, "max_drop"),
    (compressed, "seed"),
    (lambda seconds: sws.FileOptions(load_budget=sws.LoadCost(seconds, 1e6)), "seconds"),
    (sws.WeightFrames, "count"),
    (lambda tolerance: sws.verify("a.onnx", "b.onnx", tolerance=tolerance), "tolerance"),
]


@pytest.mark.parametrize(("make", "name"), NUMBERS)
@pytest.mark.parametrize(
    ("value", "cure"), [("20", "'20': write it without quotes"), ([20], r"\[20\]: give"), (True, "True")]
)
def test_what_is_no_number(make: Callable[..., Any], name: str, value: Any, cure: str) -> None:
    with pytest.raises(sws.ArgumentError, match=rf"{name} must be a (whole )?number, got {cure}") as raised:
        make(**{name: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda **settings: sws.Calibrated(inputs="x.npz", **settings), "quality"),
        (sws.LowBit, "bits"),
        (request, "learning_rate"),
        (sws.Schedule, "tune_from"),
        (prior, "components"),
        (prior, "coded_ratio"),
        (compressed, "seed"),
    ],
)
def test_none_where_a_number_is_needed(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(sws.ArgumentError, match=f"{name} must be a (whole )?number, got None: leave it out"):
        make(**{name: None})


def test_numbers_of_numpy_are_numbers() -> None:
    """They become Python's own, which a saved state and JSON may hold."""
    made = [
        request(components=np.int64(8), epochs=np.uint8(3), learning_rate=np.float32(0.5), bit_price=np.float64(0.1)),
        sws.WeightsOnly(quality=np.float32(30)),
        sws.Distillation(weight=np.float16(0.5)),
        sws.Schedule(soft_until=np.float64(0.25), strength=(np.float32(0.5), 1), hard_every=np.int16(7)),
        Goal(ratio=np.float32(20)),
    ]
    for settings in made:
        values = [getattr(settings, field.name) for field in dataclasses.fields(settings)]
        assert not any(isinstance(value, np.generic) for value in values), settings
    assert made[0].total_steps == 3
    assert request(epochs=4.0).epochs == 4
    with pytest.raises(sws.ArgumentError, match=r"epochs must be a whole number, got 4.5: round it"):
        request(epochs=4.5)


def test_pairs_are_pairs() -> None:
    assert sws.Schedule(strength=[0.1, 1]).strength == (0.1, 1)
    for value in (0.1, (0.1,), "ab"):
        with pytest.raises(sws.ArgumentError, match=r"schedule.strength must be a pair of numbers"):
            sws.Schedule(strength=value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sws.FineTuned(train=BATCHES, loss=nn.CrossEntropyLoss),
            r"loss must be called as loss\(outputs, targets\), got the class CrossEntropyLoss: make an instance",
        ),
        (
            lambda: sws.FineTuned(train=BATCHES, loss="cross_entropy"),
            r"loss must be called as loss\(outputs, targets\), got 'cross_entropy': pass the function itself",
        ),
        (lambda: compressed(evaluate=0.9), r"evaluate must be called as evaluate\(model\), got 0.9: pass the function"),
        (lambda: compressed(progress=7), r"progress must be True, False or a function of .*, got 7: pass"),
        (lambda: sws.compress(nn.Linear(40, 30), None), "output must be a path, got None: name a file"),
        (lambda: sws.export(nn.Linear(4, 3), {}, 3, example_inputs=None), "output must be a path, got 3: name a file"),
        (lambda: sws.inspect(None), "path must be a path, got None: name a file"),
        (lambda: sws.verify("a.onnx", 3), "compressed must be a path, got 3"),
        (lambda: sws.expand(b"x", "y"), "path must be a path, got b'x'"),
        (lambda: sws.picture("x", None), "output must be a path, got None"),
        (lambda: compressed(request=request(state=5)), "state must be a path, got 5"),
        (lambda: sws.export(nn.Linear(4, 3), None, "x", example_inputs=None), "palettes must be a Mapping, got None"),
        (lambda: request(schedule="soft"), "schedule must be a Schedule, got 'soft': for example Schedule"),
        (lambda: request(sharing="tensor"), r"sharing must be a Sharing, got 'tensor': for example Sharing\.MODULE"),
        (lambda: request(distillation=nn.Linear(4, 3)), "distillation must be a Distillation, got Linear: for example"),
        (lambda: sws.Distillation(teacher="bert"), "distillation teacher must be a Module, got 'bert'"),
        (lambda: prior(schedule=None, sharing=2), "sharing must be a Sharing, got 2"),
        (lambda: prior(parameters=5), "parameters must be several names, got 5: put them in a list"),
        (lambda: compressed(keep=5), "keep must be a sequence of patterns, got 5: put them into a list"),
        (lambda: compressed(overrides=[1]), "overrides must be a Mapping, got list: for example"),
    ],
)
def test_what_cannot_be_called_or_written(call: Callable[[], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
