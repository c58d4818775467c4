"""Make one record: compress a float network by the alternating loop and measure it in ONNX Runtime.

    python -m benchmarks.records.run lenet_300_100 --target-bytes 5600 --epochs 60 --seed 0 --name smaller
    python -m benchmarks.records.run cifar_resnet20 --target-bytes 52000 --epochs 16

Float networks other than LeNet-300-100 come from `benchmarks.records.float_nets`. The script writes ``NET[_NAME].onnx``
and a ``.json`` of the same name into ``--folder`` (``out/records``).

- ``--validate-only`` does not use the test images.
- ``--all-images`` also trains on the validation images, once everything is chosen. Nothing is validated then.
- ``--plain`` uses neither teacher nor augmentation. Give it a float network that was trained without augmentation.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.environment import environment
from benchmarks.records.data import MNIST, CifarBatches, data_folder, load_cifar
from benchmarks.records.float_nets import FOLDER, ImageBatches, as_images, load
from benchmarks.records.nets import error_percent
from sws_compress.api import compress
from sws_compress.demo.lenet import load_lenet
from sws_compress.demo.mnist import ShiftedBatches, Split, load_mnist
from sws_compress.file_options import FileOptions
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.ort.user_models import open_model
from sws_compress.packing.pack import PackedModel, find_palettes
from sws_compress.pipelines.publish import packed_as, pruned_as
from sws_compress.quantize.palette import Palette
from sws_compress.train.distillation import Distillation
from sws_compress.train.request import FineTuned
from sws_compress.train.schedule import Schedule
from sws_compress.train.sharing import Sharing

NETS = ("lenet_300_100", "lenet_5", "cifar_resnet20", "cifar_resnet56")
LENET = MNIST.with_name("lenet_300_100.npz")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A float network and its data; images are in the form that the network takes (uint8 for CIFAR-10)."""

    model: nn.Module
    train: Iterable[Any]
    validation: Split
    test: Split


def problem(
    net: str, batch_size: int, *, augment: bool, every: bool, float_net: Path | None, dropout: float
) -> Problem:
    """The problem of a network.

    ``every`` adds the validation images to the training images. ``float_net`` and ``dropout`` are for LeNet-300-100.
    """
    cifar = net.startswith("cifar")
    training, validation, test = load_cifar(data_folder()) if cifar else load_mnist(MNIST)
    if every:
        pairs = ((training.images, validation.images), (training.labels, validation.labels))
        training = Split(*map(torch.cat, pairs))
    if cifar:
        return Problem(convolutional(net), CifarBatches(training, batch_size, augment=augment), validation, test)
    batches = ShiftedBatches(training, batch_size, max_shift=int(augment))
    if net == "lenet_5":
        return Problem(convolutional(net), ImageBatches(batches), as_images(validation), as_images(test))
    flat = [Split(split.images.flatten(1), split.labels) for split in (validation, test)]
    return Problem(load_lenet(float_net or LENET, dropout), batches, *flat)


def convolutional(net: str) -> nn.Module:
    """The float network with channels last in memory, which halves the time of a LeNet-5 step on one core."""
    model: nn.Module = load(net, FOLDER).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def file_error_percent(path: Path, split: Split) -> float:
    """Error of an ONNX file, in percent."""
    runtime = open_model(path)
    name = runtime.inputs[0].name
    wrong = 0
    for images, labels in zip(split.images.split(1000), split.labels.split(1000), strict=True):
        (logits,) = runtime.run({name: _pixels(images).numpy()})
        wrong += int(np.sum(logits.argmax(1) != labels.numpy()))
    return 100 * wrong / len(split.labels)


def _pixels(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def payload_bytes(packed: PackedModel, palettes: Mapping[str, Palette]) -> int:
    """Bytes that papers count: coded indices of all tensors, and two bytes for each codebook value."""
    streams = {tensor.members: tensor for tensor in packed.tensors}
    codebooks = [np.unique(np.concatenate([palettes[name].codebook for name in members])) for members in streams]
    return sum(tensor.payload_bytes for tensor in streams.values()) + 2 * sum(map(len, codebooks))


def packed_for(file: FileOptions, model: ir.Model) -> tuple[PackedModel, Mapping[str, Palette]]:
    """Pack a model of snapped weights, without its idle units if ``file`` prunes them."""
    pruned_as(file, model)
    palettes = find_palettes(model)
    return packed_as(file, model, palettes), palettes


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=NETS)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--target-bytes", type=int)
    size.add_argument("--max-drop", type=float)
    size.add_argument("--bit-price", type=float)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--components", type=int, default=7)
    parser.add_argument(
        "--bias-components", type=int, default=254, help="distinct values of biases and norms outside the prior"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=7e-4)
    parser.add_argument("--distillation", type=float, default=0.7, help="share of the teacher in the loss")
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument(
        "--teacher", choices=NETS[1:], help="another network as the teacher (default: the float network)"
    )
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.0, help="dropout of the hidden units of LeNet-300-100")
    parser.add_argument(
        "--schedule", action="append", default=[], metavar="NAME=VALUE", help="field of Schedule; may be repeated"
    )
    parser.add_argument("--no-augmentation", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--float-net", type=Path, help="weights written by benchmarks/lenet/train.py (.npz)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--threads", type=int, default=1)
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--validate-only", action="store_true")
    images.add_argument("--all-images", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    cifar = options.net.startswith("cifar")
    augment = not (options.plain or options.no_augmentation)
    data = problem(
        options.net,
        options.batch_size,
        augment=augment,
        every=options.all_images,
        float_net=options.float_net,
        dropout=options.dropout,
    )
    example = _pixels(data.validation.images[:8])
    options.folder.mkdir(parents=True, exist_ok=True)
    output = options.folder / ("_".join(filter(None, (options.net, options.name))) + ".onnx")
    changes: dict[str, Any] = {name: float(value) for name, value in (text.split("=") for text in options.schedule)}
    schedule = dataclasses.replace(Schedule(), **changes)
    teacher = None
    if options.distillation and not options.plain:
        teacher = Distillation(
            weight=options.distillation,
            temperature=options.temperature,
            teacher=load(options.teacher, FOLDER) if options.teacher else None,
        )
    progress = Console(file=sys.stderr)
    result = compress(
        data.model,
        output,
        FineTuned(
            train=data.train,
            loss=functools.partial(cross_entropy, label_smoothing=options.label_smoothing),
            components=options.components,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            distillation=teacher,
            schedule=schedule,
            parameters=(lambda name, p: p.dim() > 1 or not cifar),  # in LeNets biases share their weights' mixture
            sharing=Sharing.TENSOR if cifar else Sharing.MODULE,
            bias_components=options.bias_components,
            bfloat16=cifar,
            bit_price=options.bit_price,
        ),
        target_bytes=options.target_bytes,
        max_drop=options.max_drop,
        evaluate=None if options.all_images else lambda model: -error_percent(model, data.validation),
        file=FileOptions(weight_names=False),
        example_inputs=example,
        seed=options.seed,
        progress=lambda text, done, total: (
            progress.print(f"{done}/{total} {text}") if done % max(1, total // options.epochs) == 0 else None
        ),
    )
    assert result.network is not None
    parameters = sum(parameter.numel() for parameter in data.model.parameters())
    model = from_torch(result.network, (example,))
    whole, _ = packed_for(FileOptions(weight_names=False, prune_units=False), model.clone())
    payload = payload_bytes(*packed_for(FileOptions(), model))
    figures = {
        "net": options.net,
        "parameters": parameters,
        "file_bytes": result.file_bytes,
        "file_ratio": 4 * parameters / result.file_bytes,
        "payload_bytes": payload,
        "payload_ratio": 4 * parameters / payload,
        "file_bytes_with_idle_units": len(whole.data),
        "zeros": result.zeros,
        "seconds": result.seconds,
        "notes": result.notes,
    }
    if not options.all_images:
        figures["validation_error_percent_before"] = -(result.before or 0.0)
        figures["validation_error_percent"] = file_error_percent(output, data.validation)
    if not options.validate_only:
        figures["float_test_error_percent"] = error_percent(data.model, data.test)
        figures["test_error_percent"] = file_error_percent(output, data.test)
    figures["options"] = {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
    }
    figures["environment"] = environment()
    output.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps({k: v for k, v in figures.items() if k != "environment"}))


if __name__ == "__main__":
    main()
