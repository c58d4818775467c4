"""``sws-compress demo``: a pretrained LeNet-300-100 becomes a few kilobytes of ONNX, checked and measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.text import Text
from torch import nn
from torch.nn.functional import cross_entropy

from sws_compress.api import compress
from sws_compress.demo.lenet import load_lenet
from sws_compress.demo.mnist import ShiftedBatches, Split, load_mnist
from sws_compress.errors import OutputError
from sws_compress.files import write_atomically
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines.clusters import picture
from sws_compress.pipelines.source import dense_onnx
from sws_compress.report.drawing import drawing
from sws_compress.report.result import CompressionResult
from sws_compress.terminal.progress_bar import OnProgress
from sws_compress.train.distillation import Distillation
from sws_compress.train.request import FineTuned
from sws_compress.train.sharing import Sharing

# Chosen on the last 5,000 training images.
BATCH_SIZE = 64
COMPONENTS = 7
LEARNING_RATE = 1.2e-3


@dataclass(frozen=True)
class DemoResult:
    """Figures of the demo.

    Parameters
    ----------
    compression : CompressionResult
        Result of the compression.
    test_error_before, test_error_after : float
        Test error in percent, measured by ONNX Runtime on the plain and on the compressed file.
    validation_error_after : float
        Validation error of the compressed file, in percent.
    figures : tuple of Path
        Pictures of the weights.
    log : Path
        Log of the run.
    page : Path
        Page about the compressed file.
    """

    compression: CompressionResult
    test_error_before: float
    test_error_after: float
    validation_error_after: float
    figures: tuple[Path, ...]
    log: Path
    page: Path

    def to_json(self) -> dict[str, Any]:
        return {
            **self.compression.to_json(),
            "test_error_percent_before": self.test_error_before,
            "test_error_percent_after": self.test_error_after,
            "validation_error_percent_after": self.validation_error_after,
            "figures": [str(figure) for figure in self.figures],
            "log": str(self.log),
            "page": str(self.page),
        }

    def __rich__(self) -> RenderableType:
        errors = f"{self.test_error_before:.2f} %, {self.test_error_after:.2f} %"
        return Group(
            self.compression.table([("test error before, after", errors)]),
            Text.assemble(("pictures of the weights", "dim"), f"  {', '.join(map(str, self.figures))}"),
            Text.assemble(("the run step by step", "dim"), f"  {self.log}"),
            Text.assemble(("the file as a page", "dim"), f"  {self.page}"),
        )


def run_demo(
    data: Path,
    output: Path,
    *,
    epochs: int,
    ratio: float,
    seed: int,
    progress: bool | OnProgress = True,
) -> DemoResult:
    """Compress LeNet-300-100 on MNIST and measure the files.

    Parameters
    ----------
    data : Path
        Folder with ``mnist.npz`` and ``lenet_300_100.npz``.
    output : Path
        Folder that gets ``lenet.onnx``, ``dense.onnx``, ``result.json``, ``training.csv``, ``report.html`` and three
        pictures:
        ``weights.png`` (before and after), ``weights.gif`` (on the way) and ``clusters.png`` (which weight is in which
        cluster).
    epochs : int
        Length of the run.
    ratio : float
        How many times smaller the file becomes.
    seed : int
        Seed of the run.
    progress : bool or callable
        As for `compress`.

    Raises
    ------
    DataError, ModelError
        If the folder ``data`` lacks a file.
    OutputError
        If the folder ``output`` cannot be made.
    """
    weights_figure = drawing("weights_figure").weights_figure  # early: a missing matplotlib must not cost the run
    training, validation, test = load_mnist(data / "mnist.npz")
    network = load_lenet(data / "lenet_300_100.npz")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output folder {output} must be writable, got '{error.strerror}': choose another") from error
    still, film, coloured = (output / name for name in ("weights.png", "weights.gif", "clusters.png"))
    log, page = output / "training.csv", output / "report.html"
    example = test.images[:8].flatten(1)
    compression = compress(
        network,
        output / "lenet.onnx",
        FineTuned(
            train=ShiftedBatches(training, BATCH_SIZE),
            loss=cross_entropy,
            components=COMPONENTS,
            epochs=epochs,
            learning_rate=LEARNING_RATE,
            distillation=Distillation(),
            parameters=lambda name, parameter: True,  # biases too: in float32 they would be a fifth of the file
            sharing=Sharing.MODULE,
            log=log,
            frames=film,
        ),
        ratio=ratio,
        example_inputs=(example,),
        seed=seed,
        progress=progress,
        report=page,
    )
    dense = output / "dense.onnx"
    write_atomically(dense, dense_onnx(network, (example,)))
    assert compression.network is not None
    weights_figure(_matrices(network), _matrices(compression.network), compression.mixtures, still)
    picture(compression.output, coloured)
    result = DemoResult(
        compression=compression,
        test_error_before=error_percent(dense, test),
        test_error_after=error_percent(compression.output, test),
        validation_error_after=error_percent(compression.output, validation),
        figures=(still, film, coloured),
        log=log,
        page=page,
    )
    write_atomically(output / "result.json", (json.dumps(result.to_json(), indent=2) + "\n").encode())
    return result


def _matrices(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    return {name: p.detach().numpy() for name, p in network.named_parameters() if p.dim() == 2}


def error_percent(path: Path, split: Split) -> float:
    """Wrong answers of an ONNX file on a split, in percent."""
    logits = run_model(path, {"pixels": split.images.flatten(1).numpy()})["output"]
    return 100 * float(np.mean(logits.argmax(1) != split.labels.numpy()))
