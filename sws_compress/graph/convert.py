"""Models of older operator sets, converted to the oldest in which decoders can be written."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import version_converter
from onnx.external_data_helper import load_external_data_for_model

from sws_compress.errors import ModelError, VerificationError
from sws_compress.graph.messages import first_line
from sws_compress.graph.verify import compare_outputs

LARGEST_ERROR = 1e-5
"""Relative difference of outputs up to which a converted model counts as the same."""


def converted(file: Path, proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """``proto``, read from ``file`` and checked, in operators of version ``opset``; its external data is loaded.

    Converters have mistakes: the outputs of both are compared in ONNX Runtime on random inputs. Raises ModelError where
    there is no conversion, and where the outputs differ or cannot be compared.
    """
    try:
        load_external_data_for_model(proto, str(file.parent))
        new = version_converter.convert_version(proto, opset)
        onnx.checker.check_model(new)
        differences = compare_outputs(proto.SerializeToString(), new.SerializeToString())
    except VerificationError as error:
        cause = error.__cause__ or error
        raise _refused(file, proto, opset, f"two versions that cannot be compared ('{first_line(cause)}')") from error
    except Exception as error:  # the converter is C++ and raises whatever its steps do
        raise _refused(file, proto, opset, f"'{first_line(error)}'") from error
    largest = max((difference.largest_relative for difference in differences), default=0.0)
    if not largest <= LARGEST_ERROR:
        raise _refused(file, proto, opset, f"outputs that differ by {largest:.1e}")
    return new


def _refused(file: Path, proto: onnx.ModelProto, opset: int, found: str) -> ModelError:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return ModelError(
        f"opset of {file} must be >= {opset} or convert to it, got {max(versions)} and {found}: "
        f"export it again with opset {opset} or newer"
    )
