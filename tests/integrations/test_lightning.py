"""The callback in a real Lightning ``Trainer``, on the digits."""

from __future__ import annotations

import copy
import importlib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import sws_compress as sws
import sws_compress.integrations
from sws_compress.errors import ArgumentError
from sws_compress.integrations.lightning import SoftWeightSharingCallback
from sws_compress.train.schedule import Schedule
from tests.train.digits import TRAINING, data, trained

SCHEDULE = Schedule(soft_until=0.3, target_at=0.6, tune_from=0.8, soft_every=4, hard_every=3)
EPOCHS, BATCHES, STEPS = 4, 20, 40  # two batches a step


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def classifier(base: Any = pl.LightningModule, dropout: float = 0.1) -> Any:
    """A module whose network is one part of it; the rate changes in every step."""

    class Classifier(base):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(*trained(), nn.Dropout(dropout))
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.net.parameters(), lr=2e-3)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    return Classifier()


def loader() -> DataLoader[Any]:
    pixels, labels = data()
    count = 30 * BATCHES
    assert count < TRAINING
    return DataLoader(TensorDataset(pixels[:count], labels[:count]), batch_size=30)


def callback(**options: Any) -> SoftWeightSharingCallback:
    return SoftWeightSharingCallback(
        **{"components": 8, "coded_ratio": 14, "schedule": SCHEDULE, "submodule": "net", **options}
    )


def fit(
    folder: Path,
    *callbacks: Any,
    checkpoint: Path | None = None,
    library: Any = pl,
    dropout: float = 0.1,
    **options: Any,
) -> Any:
    defaults = {
        "max_epochs": EPOCHS,
        "accumulate_grad_batches": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    library.seed_everything(5)
    module = classifier(library.LightningModule, dropout)
    trainer = library.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**defaults, **options})
    trainer.fit(module, loader(), ckpt_path=checkpoint)
    return module


def assert_holds(net: nn.Module, palettes: dict[str, Any]) -> None:
    for name, palette in palettes.items():
        held = net.get_parameter(name).detach().numpy()
        np.testing.assert_array_equal(palette.expand().view(np.uint32), held.view(np.uint32))
        assert 2 <= len(palette.codebook) <= 8


def test_trains_snaps_logs_and_exports(tmp_path: Path) -> None:
    prior = callback()
    module = fit(tmp_path, prior, logger=CSVLogger(tmp_path, "log", "one"), log_every_n_steps=5)
    assert prior.prior is not None
    assert prior.prior.steps == STEPS
    assert list(prior.palettes) == ["0.weight", "2.weight"]
    assert_holds(module.net, prior.palettes)
    result = sws.export(module.net, prior.palettes, tmp_path / "small.onnx", example_inputs=data()[0][:4])
    assert result.ratio > 3
    with (tmp_path / "log" / "one" / "metrics.csv").open() as file:
        columns = file.readline().strip().split(",")
        rows = [dict(zip(columns, line.strip().split(","), strict=True)) for line in file]
    assert [float(row["sws/stage"]) for row in rows] == [0, 0, 1, 1, 1, 1, 2, 2]
    assert float(rows[-1]["sws/progress"]) == 1
    assert float(rows[-1]["sws/coded_ratio"]) == pytest.approx(prior.prior.coded_ratio)


def test_steps_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """The pull is made with the rate of the step, before the scheduler changes it."""
    prior = callback()
    module = fit(tmp_path, prior)

    pl.seed_everything(5)
    plain = classifier()
    (optimizer,), (schedule,) = plain.configure_optimizers()
    loop = sws.SoftWeightSharing(
        plain.net, optimizer, components=8, coded_ratio=14, total_steps=STEPS, schedule=SCHEDULE
    )
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader()):
            (plain.training_step(batch, index) / 2).backward()
            if index % 2:
                optimizer.step()
            loop.step()  # does nothing in between
            if index % 2:
                optimizer.zero_grad()
                schedule["scheduler"].step()
    loop.snap()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name


def test_resumed_is_the_same_run(tmp_path: Path) -> None:
    """Bit for bit, without dropout: Lightning's checkpoints leave out the state of random generators."""
    saver = pl.callbacks.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=10, save_top_k=-1)
    prior = callback()
    whole = fit(tmp_path, prior, saver, enable_checkpointing=True, dropout=0.0)
    for step in (10, 30):  # the soft stage, the hard stage
        again = callback()
        resumed = fit(tmp_path, again, checkpoint=tmp_path / f"step={step}.ckpt", dropout=0.0)
        assert again.prior is not None
        assert again.prior.steps == STEPS
        assert_holds(resumed.net, again.palettes)
        for name, palette in prior.palettes.items():
            np.testing.assert_array_equal(palette.indices, again.palettes[name].indices)
            np.testing.assert_array_equal(palette.codebook, again.palettes[name].codebook)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name


def test_bfloat16(tmp_path: Path) -> None:
    prior = callback()
    module = fit(tmp_path, prior, precision="bf16-mixed")
    assert prior.prior is not None
    assert prior.prior.steps == STEPS
    assert_holds(module.net, prior.palettes)


def test_skipped_steps_are_not_counted(tmp_path: Path) -> None:
    """A scale under which every gradient overflows is halved until it fits."""
    prior = callback()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    module = fit(tmp_path, prior, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert prior.prior is not None
    skipped = round(30 - np.log2(scaler.get_scale()))
    assert 2 < skipped < 20
    assert prior.prior.steps == STEPS - skipped
    assert_holds(module.net, prior.palettes)


def test_its_elder_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``lightning`` is not installed, ``pytorch_lightning`` serves as well."""
    name = "sws_compress.integrations.lightning"
    monkeypatch.setattr(sws_compress.integrations, "lightning", None)  # put back afterwards, as the entries are
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, name)
    elder = importlib.import_module(name).SoftWeightSharingCallback
    assert issubclass(elder, pytorch_lightning.Callback)
    prior = elder(components=8, coded_ratio=14, schedule=SCHEDULE, parameters=["net.2.weight"])
    module = fit(tmp_path, prior, library=pytorch_lightning, max_epochs=1)
    assert list(prior.palettes) == ["net.2.weight"]
    assert_holds(module, prior.palettes)


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"palettes must be asked for after training, got none so far"):
        _ = callback().palettes
    with pytest.raises(ArgumentError, match=r"total_steps must be given where Lightning cannot count the steps"):
        fit(tmp_path, callback(), max_epochs=-1)
    prior = callback(total_steps=7)
    fit(tmp_path, prior, max_epochs=-1, max_steps=7)
    assert prior.prior is not None
    assert prior.prior.progress == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"submodule": "nett"}, "submodule must name a part of Classifier, got 'nett': it has net, teacher"),
        ({"optimizer": 1}, "optimizer must be an index into the 1 of configure_optimizers, got 1: count from 0"),
    ],
)
def test_what_a_module_does_not_have(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        fit(tmp_path, callback(**options))
