"""The callback in a real ``Trainer``: a GPT-2 of one layer, whose head is tied and whose linear layers are its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

import sws_compress as sws
from sws_compress.errors import ArgumentError
from sws_compress.integrations.transformers import STATE_FILE, SoftWeightSharingCallback
from sws_compress.train.schedule import Schedule

SCHEDULE = Schedule(soft_until=0.3, target_at=0.6, tune_from=0.8, soft_every=4, hard_every=3)
STEPS = 40
COMPRESSED = [
    "transformer.wte.weight",
    "transformer.wpe.weight",
    *(f"transformer.h.0.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
]


def network() -> GPT2LMHeadModel:
    set_seed(1)
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=12, n_embd=32, n_layer=1, n_head=2, use_cache=False))


def counting(rows: int = 96) -> list[dict[str, torch.Tensor]]:
    """Sequences that count on from somewhere."""
    starts = torch.randint(0, 40, (rows, 1), generator=torch.Generator().manual_seed(3))
    return [{"input_ids": row, "labels": row} for row in (starts + torch.arange(12)) % 40]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    defaults = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "lr_scheduler_type": "cosine",
        "logging_steps": 5,
        "save_steps": 10,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
    }
    return TrainingArguments(str(folder), **{**defaults, **options})


def callback(**options: Any) -> SoftWeightSharingCallback:
    return SoftWeightSharingCallback(components=8, coded_ratio=12, schedule=SCHEDULE, **options)


class Ending(TrainerCallback):
    """Stands for the process being killed."""

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == 27:
            raise KeyboardInterrupt


class Reporter(TrainerCallback):
    """Writes down what TensorBoard would."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        self.logged.append(dict(logs))


def trained(folder: Path, prior: SoftWeightSharingCallback, **options: Any) -> Trainer:
    trainer = Trainer(network(), arguments(folder, **options), train_dataset=counting(), callbacks=[prior])
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, SoftWeightSharingCallback]:
    prior = callback()
    return trained(tmp_path_factory.mktemp("whole"), prior), prior


def test_trains_snaps_and_exports(whole: tuple[Trainer, SoftWeightSharingCallback], tmp_path: Path) -> None:
    trainer, prior = whole
    assert prior.prior is not None
    assert prior.prior.steps == STEPS  # one for two batches
    assert prior.prior.progress == 1
    assert list(prior.palettes) == COMPRESSED
    assert trainer.model.lm_head.weight is trainer.model.transformer.wte.weight
    for name, palette in prior.palettes.items():
        held = trainer.model.get_parameter(name).detach().numpy()
        np.testing.assert_array_equal(palette.expand().view(np.uint32), held.view(np.uint32))
        assert len(palette.codebook) <= 8
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]

    ids = torch.stack([row["input_ids"] for row in counting(3)])
    result = sws.export(trainer.model, prior.palettes, tmp_path / "small.onnx", example_inputs=ids)
    assert result.ratio > 3
    (logits,) = onnxruntime.InferenceSession(result.output).run(None, {"input_ids": ids.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, trainer.model.eval()(ids).logits.numpy(), atol=1e-4)


def test_numbers_are_logged(whole: tuple[Trainer, SoftWeightSharingCallback], tmp_path: Path) -> None:
    history = [entry for entry in whole[0].state.log_history if "loss" in entry]
    assert [entry["step"] for entry in history] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [entry["sws/stage"] for entry in history] == [0, 0, 1, 1, 1, 1, 2, 2]
    assert [entry["sws/progress"] for entry in history] == [entry["step"] / STEPS for entry in history]
    assert ["sws/coded_ratio" in entry for entry in history] == [False] * 2 + [True] * 6
    assert history[-1]["sws/coded_ratio"] == pytest.approx(12, rel=0.2)

    reporter, prior = Reporter(), callback()
    options = arguments(tmp_path, max_steps=5, save_strategy="no")
    trainer = Trainer(network(), options, train_dataset=counting(), callbacks=[reporter])
    prior.add_to(trainer)
    trainer.train()
    assert prior.palettes
    assert reporter.logged[0]["sws/progress"] == 1


@pytest.mark.parametrize("moved", [False, True])
def test_resumed_is_the_same_run(whole: tuple[Trainer, SoftWeightSharingCallback], tmp_path: Path, moved: bool) -> None:
    """Bit for bit, from a checkpoint of the hard stage, in a trainer made anew."""
    first = Trainer(network(), arguments(tmp_path), train_dataset=counting(), callbacks=[callback(), Ending()])
    with pytest.raises(KeyboardInterrupt):
        first.train()
    checkpoint = tmp_path / "checkpoint-20"
    if moved:
        checkpoint = Path(shutil.move(checkpoint, tmp_path / "elsewhere"))
    prior = callback(resume_from=checkpoint if moved else None)
    model = network()
    set_seed(999)  # another process
    second = Trainer(model, arguments(tmp_path), train_dataset=counting(), callbacks=[prior])
    second.train(resume_from_checkpoint=str(checkpoint))
    for name, value in whole[0].model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, palette in whole[1].palettes.items():
        np.testing.assert_array_equal(palette.indices, prior.palettes[name].indices)


def test_refuses_to_go_on_without_its_state(tmp_path: Path) -> None:
    trained(tmp_path, callback(), max_steps=10, save_steps=5)
    (tmp_path / "checkpoint-5" / STATE_FILE).unlink()
    trainer = Trainer(network(), arguments(tmp_path, max_steps=10), train_dataset=counting(), callbacks=[callback()])
    with pytest.raises(ArgumentError, match=r"soft_weight_sharing.pt must exist to go on from step 5"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    content = bytearray((tmp_path / "checkpoint-10" / STATE_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "checkpoint-5" / STATE_FILE).write_bytes(content)
    with pytest.raises(ArgumentError, match=r"must be a state that this run saved, got damaged or other bytes"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    other = callback(resume_from=tmp_path / "checkpoint-10")
    trainer = Trainer(network(), arguments(tmp_path, max_steps=10), train_dataset=counting(), callbacks=[other])
    with pytest.raises(ArgumentError, match=r"must be of step 5, got step 10: name the same checkpoint"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_mixed_precision_and_compilation(tmp_path: Path) -> None:
    options = {"bf16": True, "torch_compile": True, "torch_compile_backend": "eager", "save_strategy": "no"}
    prior = callback()
    trainer = trained(tmp_path, prior, max_steps=15, **options)
    assert type(trainer.model_wrapped).__name__ == "OptimizedModule"
    assert list(prior.palettes) == COMPRESSED
    assert prior.prior is not None
    assert prior.prior.steps == 15


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"palettes must be asked for after training, got none so far"):
        _ = callback().palettes
    options = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 10}
    trainer = Trainer(
        network(),
        arguments(tmp_path, **options),
        train_dataset=counting(),
        eval_dataset=counting(8),
        callbacks=[callback()],
    )
    with pytest.raises(ArgumentError, match=r"load_best_model_at_end must be False with soft weight sharing, got True"):
        trainer.train()
