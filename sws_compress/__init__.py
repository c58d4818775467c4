"""Small ONNX files by soft weight sharing: a pretrained network in, an ordinary ``.onnx`` many times smaller out.

Calls
    ``compress`` does everything in one call, with a request (``WeightsOnly``, ``Calibrated``, ``LowBit``,
    ``FineTuned``) that says how and ``FileOptions`` that say what the file is like. ``export`` writes a network that a
    loop of your own has snapped. ``verify``, ``check``, ``inspect`` and ``expand`` work on the files; ``clusters`` and
    ``picture`` show which weights share a value, ``save_report`` writes a page about a file, and
    ``save_card`` a folder for a model hub.
Training
    ``SoftWeightSharing`` is the prior for a training loop of your own, on one machine or many, with
    ``save_checkpoint``, ``load_checkpoint`` and ``lost_ranks_told`` beside it. ``cluster_frozen`` snaps weights that
    are not trained, and ``WeightFrames`` films a run.

Each name is imported when it is first used (PEP 562), so that ``import sws_compress`` does not wait for torch.
"""

from __future__ import annotations

from sws_compress.errors import (
    ArgumentError,
    DataError,
    ModelError,
    OutputError,
    PackageError,
    SwsError,
    TrainingError,
    VerificationError,
)

TYPE_CHECKING = False  # importing it from typing doubles the time of `import sws_compress`
if TYPE_CHECKING:
    from sws_compress.api import compress, export
    from sws_compress.codec.load_cost import LoadCost
    from sws_compress.file_options import FileOptions
    from sws_compress.mixture.histogram import WeightHistogram
    from sws_compress.mixture.mixture import Mixture
    from sws_compress.mixture.sensitivity import Sensitivity
    from sws_compress.mixture.statistics import ExpectedStatistics
    from sws_compress.onnx_io.analyse.weights import Skipped
    from sws_compress.ort.decode import Decoding
    from sws_compress.ort.differences import OutputDifference
    from sws_compress.ort.still_packed import StillPacked
    from sws_compress.ort.weight_differences import WeightDifference
    from sws_compress.pipelines.check_budget import check
    from sws_compress.pipelines.clusters import clusters, picture
    from sws_compress.pipelines.expand import expand
    from sws_compress.pipelines.inspect import inspect
    from sws_compress.pipelines.save_card import save_card
    from sws_compress.pipelines.save_report import save_report
    from sws_compress.pipelines.verify import verify
    from sws_compress.quantize.granularity import Best, PerBlock, PerChannel, PerTensor, Vectors
    from sws_compress.quantize.palette import Palette
    from sws_compress.quantize.weight_scales import ChannelScales
    from sws_compress.report.budget_check import BudgetCheck
    from sws_compress.report.cluster_report import ClusterReport, Picture
    from sws_compress.report.clustered import Cluster, Place, TensorClusters
    from sws_compress.report.decisions import Decision
    from sws_compress.report.file_parts import FileParts
    from sws_compress.report.file_reports import ExpansionResult, Inspection, Verification
    from sws_compress.report.frames import Snapshot, WeightFrames
    from sws_compress.report.inspection import ModelParts, TensorRow
    from sws_compress.report.result import CompressionResult, MeasuredSize
    from sws_compress.requests import Calibrated, LowBit, WeightsOnly
    from sws_compress.train.checkpoint import load_checkpoint, save_checkpoint
    from sws_compress.train.distillation import Distillation
    from sws_compress.train.frozen import cluster_frozen
    from sws_compress.train.prior import SoftWeightSharing
    from sws_compress.train.progress import Progress
    from sws_compress.train.ranks import Ranks, lost_ranks_told
    from sws_compress.train.request import FineTuned
    from sws_compress.train.schedule import Schedule, Stage
    from sws_compress.train.select import DivergedError, ParameterGroup
    from sws_compress.train.sharing import Sharing

    __version__: str

__all__ = [
    "ArgumentError",
    "Best",
    "BudgetCheck",
    "Calibrated",
    "ChannelScales",
    "Cluster",
    "ClusterReport",
    "CompressionResult",
    "DataError",
    "Decision",
    "Decoding",
    "Distillation",
    "DivergedError",
    "ExpansionResult",
    "ExpectedStatistics",
    "FileOptions",
    "FileParts",
    "FineTuned",
    "Inspection",
    "LoadCost",
    "LowBit",
    "MeasuredSize",
    "Mixture",
    "ModelError",
    "ModelParts",
    "OutputDifference",
    "OutputError",
    "PackageError",
    "Palette",
    "ParameterGroup",
    "PerBlock",
    "PerChannel",
    "PerTensor",
    "Picture",
    "Place",
    "Progress",
    "Ranks",
    "Schedule",
    "Sensitivity",
    "Sharing",
    "Skipped",
    "Snapshot",
    "SoftWeightSharing",
    "Stage",
    "StillPacked",
    "SwsError",
    "TensorClusters",
    "TensorRow",
    "TrainingError",
    "Vectors",
    "Verification",
    "VerificationError",
    "WeightDifference",
    "WeightFrames",
    "WeightHistogram",
    "WeightsOnly",
    "__version__",
    "check",
    "cluster_frozen",
    "clusters",
    "compress",
    "expand",
    "export",
    "inspect",
    "load_checkpoint",
    "lost_ranks_told",
    "picture",
    "save_card",
    "save_checkpoint",
    "save_report",
    "verify",
]

_HOMES = {
    "Best": "sws_compress.quantize.granularity",
    "BudgetCheck": "sws_compress.report.budget_check",
    "Calibrated": "sws_compress.requests",
    "ChannelScales": "sws_compress.quantize.weight_scales",
    "Cluster": "sws_compress.report.clustered",
    "ClusterReport": "sws_compress.report.cluster_report",
    "StillPacked": "sws_compress.ort.still_packed",
    "TensorClusters": "sws_compress.report.clustered",
    "CompressionResult": "sws_compress.report.result",
    "Decision": "sws_compress.report.decisions",
    "Decoding": "sws_compress.ort.decode",
    "Distillation": "sws_compress.train.distillation",
    "DivergedError": "sws_compress.train.select",
    "ExpansionResult": "sws_compress.report.file_reports",
    "ExpectedStatistics": "sws_compress.mixture.statistics",
    "FileOptions": "sws_compress.file_options",
    "FileParts": "sws_compress.report.file_parts",
    "FineTuned": "sws_compress.train.request",
    "Inspection": "sws_compress.report.file_reports",
    "LoadCost": "sws_compress.codec.load_cost",
    "LowBit": "sws_compress.requests",
    "MeasuredSize": "sws_compress.report.result",
    "Mixture": "sws_compress.mixture.mixture",
    "ModelParts": "sws_compress.report.inspection",
    "OutputDifference": "sws_compress.ort.differences",
    "Palette": "sws_compress.quantize.palette",
    "ParameterGroup": "sws_compress.train.select",
    "PerBlock": "sws_compress.quantize.granularity",
    "PerChannel": "sws_compress.quantize.granularity",
    "PerTensor": "sws_compress.quantize.granularity",
    "Picture": "sws_compress.report.cluster_report",
    "Place": "sws_compress.report.clustered",
    "Progress": "sws_compress.train.progress",
    "Ranks": "sws_compress.train.ranks",
    "Schedule": "sws_compress.train.schedule",
    "Sensitivity": "sws_compress.mixture.sensitivity",
    "Sharing": "sws_compress.train.sharing",
    "Skipped": "sws_compress.onnx_io.analyse.weights",
    "Snapshot": "sws_compress.report.frames",
    "SoftWeightSharing": "sws_compress.train.prior",
    "Stage": "sws_compress.train.schedule",
    "TensorRow": "sws_compress.report.inspection",
    "Vectors": "sws_compress.quantize.granularity",
    "Verification": "sws_compress.report.file_reports",
    "WeightDifference": "sws_compress.ort.weight_differences",
    "WeightFrames": "sws_compress.report.frames",
    "WeightHistogram": "sws_compress.mixture.histogram",
    "WeightsOnly": "sws_compress.requests",
    "check": "sws_compress.pipelines.check_budget",
    "cluster_frozen": "sws_compress.train.frozen",
    "clusters": "sws_compress.pipelines.clusters",
    "compress": "sws_compress.api",
    "expand": "sws_compress.pipelines.expand",
    "export": "sws_compress.api",
    "inspect": "sws_compress.pipelines.inspect",
    "load_checkpoint": "sws_compress.train.checkpoint",
    "lost_ranks_told": "sws_compress.train.ranks",
    "picture": "sws_compress.pipelines.clusters",
    "save_card": "sws_compress.pipelines.save_card",
    "save_checkpoint": "sws_compress.train.checkpoint",
    "save_report": "sws_compress.pipelines.save_report",
    "verify": "sws_compress.pipelines.verify",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("sws-compress")
    elif name in _HOMES:
        from importlib import import_module

        with import_module("sws_compress.packages").packages_for(name):
            value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
