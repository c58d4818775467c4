"""Small ONNX files by soft weight sharing: a pretrained network in, an ordinary ``.onnx`` many times smaller out.

``compress``, ``export``, ``verify``, ``inspect`` and ``expand`` are the whole way in one call each;
``clusters`` and ``picture`` show which weights share a value;
``Distillation`` lets a teacher help, by default the float network;
``SoftWeightSharing`` is the prior for a training loop of your own, on one machine or many, with ``save_checkpoint``,
``load_checkpoint`` and ``lost_ranks_told`` beside it; ``WeightFrames`` makes a film of it;
``Mixture`` and ``Palette`` are what the steps hand on. Each is imported when it is first used (PEP 562),
so that ``import sws_compress`` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sws_compress.errors import (
    ArgumentError,
    DataError,
    ModelError,
    OutputError,
    SwsError,
    TrainingError,
    VerificationError,
)

if TYPE_CHECKING:
    from sws_compress.api import compress, export, inspect, verify
    from sws_compress.codec.load_cost import LoadCost
    from sws_compress.mixture.mixture import Mixture
    from sws_compress.mixture.sensitivity import Sensitivity
    from sws_compress.pipelines.clusters import clusters, picture
    from sws_compress.pipelines.expand import expand
    from sws_compress.quantize.granularity import Best, PerBlock, PerChannel, PerTensor, Vectors
    from sws_compress.quantize.palette import Palette
    from sws_compress.report.frames import WeightFrames
    from sws_compress.train.checkpoint import load_checkpoint, save_checkpoint
    from sws_compress.train.distillation import Distillation
    from sws_compress.train.prior import SoftWeightSharing
    from sws_compress.train.ranks import lost_ranks_told

    __version__: str

__all__ = [
    "ArgumentError",
    "Best",
    "DataError",
    "Distillation",
    "LoadCost",
    "Mixture",
    "ModelError",
    "OutputError",
    "Palette",
    "PerBlock",
    "PerChannel",
    "PerTensor",
    "Sensitivity",
    "SoftWeightSharing",
    "SwsError",
    "TrainingError",
    "Vectors",
    "VerificationError",
    "WeightFrames",
    "__version__",
    "clusters",
    "compress",
    "expand",
    "export",
    "inspect",
    "load_checkpoint",
    "lost_ranks_told",
    "picture",
    "save_checkpoint",
    "verify",
]

_HOMES = {
    "Best": "sws_compress.quantize.granularity",
    "Distillation": "sws_compress.train.distillation",
    "LoadCost": "sws_compress.codec.load_cost",
    "Mixture": "sws_compress.mixture.mixture",
    "Palette": "sws_compress.quantize.palette",
    "PerBlock": "sws_compress.quantize.granularity",
    "PerChannel": "sws_compress.quantize.granularity",
    "PerTensor": "sws_compress.quantize.granularity",
    "Sensitivity": "sws_compress.mixture.sensitivity",
    "SoftWeightSharing": "sws_compress.train.prior",
    "Vectors": "sws_compress.quantize.granularity",
    "WeightFrames": "sws_compress.report.frames",
    "clusters": "sws_compress.pipelines.clusters",
    "compress": "sws_compress.api",
    "expand": "sws_compress.pipelines.expand",
    "export": "sws_compress.api",
    "inspect": "sws_compress.api",
    "load_checkpoint": "sws_compress.train.checkpoint",
    "lost_ranks_told": "sws_compress.train.ranks",
    "picture": "sws_compress.pipelines.clusters",
    "save_checkpoint": "sws_compress.train.checkpoint",
    "verify": "sws_compress.api",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("sws-compress")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
