"""ONNX Runtime sessions on the CPU, and whether a file that was written loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.messages import first_line

if TYPE_CHECKING:
    import onnxruntime


Array = npt.NDArray[Any]


Model = bytes | str | os.PathLike[str]
"""The bytes of a model without external data, or the path of a model."""


def check_runs(model: Model) -> None:
    """Check that a model passes the full ONNX check and that ONNX Runtime loads it on the CPU.

    Raises
    ------
    VerificationError
        If it does not.
    """
    _check(model)
    session(model)


def check_loads(path: Path) -> None:
    """`check_runs`, without computing or optimising anything at load: takes little memory for the model's size."""
    _check(path)
    session(path, optimize=False)


def _check(model: Model) -> None:
    try:
        onnx.checker.check_model(model if isinstance(model, bytes) else os.fspath(model), full_check=True)
    except Exception as error:  # the checker raises its own errors, type inference those of C++
        raise VerificationError(
            f"written model must pass the ONNX checker, got '{first_line(error)}': report this"
        ) from error


def session(
    model: Model, *, optimized_path: Path | None = None, optimize: bool = True, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """Load a model in ONNX Runtime on the CPU; the runtime prints nothing, neither now nor when the model runs.

    Parameters
    ----------
    model : bytes or path-like
        The model.
    optimized_path : Path or None
        If given, the graph is only constant-folded and simplified, and written there.
    optimize : bool
        False loads the graph as it is.
    profile : Path or None
        If given, the runtime records what it does in a file whose name begins so.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    VerificationError
        If the model does not load.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, too: without this their text is printed before our line
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, os.fspath(profile)
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise VerificationError(
            f"written model must load in ONNX Runtime, got '{first_line(error)}': report this"
        ) from error
