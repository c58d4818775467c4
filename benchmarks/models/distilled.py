"""Calibrated modules with and without distillation: the error on held-out inputs, and test accuracy, at equal bytes.

    python -m benchmarks.models.distilled --data FOLDER [--only NAME ...] [--ratios 10 16 20] [--rows 256]

Calibration inputs are training images without labels. Recurrent networks and transformers come from
`benchmarks.models.train`. Writes ``distilled.json`` beside the models, after every row.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import sws_compress as sws
from benchmarks.environment import environment
from benchmarks.models.nets import CifarResNet
from benchmarks.models.places import LENET, add_arguments
from benchmarks.models.train import RECIPES, accuracy_percent, images_and_labels
from benchmarks.records.data import CIFAR_JPEG, jpeg_split
from benchmarks.records.nets import CIFAR_MEAN, CIFAR_SPREAD
from sws_compress.demo.lenet import load_lenet

RESNETS = {"resnet20": 3, "resnet56": 9}
MODELS = ("lenet", "gru", "transformer", *RESNETS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--ratios", nargs="+", type=float, default=[10.0, 16.0, 20.0])
    parser.add_argument("--rows", type=int, default=256)
    arguments = parser.parse_args()
    folder = arguments.folder / "small"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    print("| model | ratio | distilled | bytes | held-out error % | test % | seconds |\n|---|---|---|---|---|---|---|")
    for name in arguments.only:
        network = network_of(name, arguments.data, arguments.folder)
        (images, _), test = (images_of(name, split, arguments.data) for split in ("train", "test"))
        inputs = images[: arguments.rows].clone()
        print(f"| {name} | 1 | | | | {accuracy_percent(network, *test):.2f} | |", flush=True)
        for ratio in arguments.ratios:
            for distillation in (False, True):
                request = sws.Calibrated(inputs=[inputs], distillation=distillation)
                target = folder / f"{name}_{ratio:g}_{'distilled' if distillation else 'plain'}.onnx"
                started = time.perf_counter()
                result = sws.compress(network, target, request, ratio=ratio, example_inputs=inputs[:2])
                seconds = time.perf_counter() - started
                assert result.network is not None
                accuracy = accuracy_percent(result.network, *test)
                rows.append({
                    "model": name, "ratio": ratio, "distillation": distillation, "bytes": result.file_bytes,
                    "score_error": result.score_error, "accuracy": accuracy, "seconds": seconds, "notes": result.notes,
                })  # fmt: skip
                _write(arguments.folder / "distilled.json", rows)
                print(
                    f"| {name} | {ratio:g} | {'yes' if distillation else ''} | {result.file_bytes:,} | "
                    f"{100 * result.score_error:.2f} | {accuracy:.2f} | {seconds:.0f} |",
                    flush=True,
                )


def network_of(name: str, data: Path, folder: Path) -> nn.Module:
    """The float network."""
    if name == "lenet":
        return load_lenet(LENET).eval()
    if name in RESNETS:
        network: nn.Module = CifarResNet(RESNETS[name])
        state = torch.load(data / "models" / f"cifar_{name}.pt", map_location="cpu", weights_only=True)
        network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    else:
        network = RECIPES[name].network()
        network.load_state_dict(torch.load(folder / "trained" / f"{name}.pt", weights_only=True))
    return network.eval()


def images_of(name: str, split: str, data: Path) -> tuple[Tensor, Tensor]:
    """Images as the network takes them, and labels."""
    if name in RESNETS:
        images, labels = jpeg_split(data / CIFAR_JPEG, split)
        mean, spread = (torch.tensor(part).view(3, 1, 1) for part in (CIFAR_MEAN, CIFAR_SPREAD))
        return (images.float() / 255 - mean) / spread, labels
    images, labels = images_and_labels("mnist" if name == "lenet" else RECIPES[name].dataset, split, data)
    return (images.flatten(1) if name == "lenet" else images), labels


def _write(target: Path, rows: list[dict[str, object]]) -> None:
    draft = target.with_suffix(".new")
    draft.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))
    draft.replace(target)


if __name__ == "__main__":
    main()
