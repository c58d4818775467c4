"""What must hold for the outputs of every runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx

from sws_compress.ort.session import session
from tests.runtimes.files import ModelFile

Outputs = dict[str, npt.NDArray[np.generic]]


def reference_outputs(file: ModelFile) -> Outputs:
    """Outputs of the plain model in the installed ONNX Runtime."""
    runtime = session(file.dense)
    return dict(zip((output.name for output in runtime.outputs), runtime.run(file.feeds), strict=True))


def assert_agrees(file: ModelFile, outputs: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Check that weights agree bit for bit, and sums as far as another order of summation allows."""
    expected = reference_outputs(file)
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        assert outputs[name].dtype == values.dtype
        assert outputs[name].shape == values.shape
        if name in file.exact:
            assert outputs[name].tobytes() == values.tobytes(), f"{file.name}: {name}"
        else:
            largest = float(np.abs(values).max())
            np.testing.assert_allclose(outputs[name], values, rtol=0, atol=2e-6 * largest, err_msg=file.name)


def assert_stays_packed(file: ModelFile, optimized: onnx.ModelProto) -> None:
    """Check that the runtime's graph holds packed rows as they are in the file, and no dense table."""
    if "rows" not in file.encodings:
        return
    packed = {tensor.name: tensor.raw_data for tensor in onnx.load_from_string(file.data).graph.initializer}
    left = {tensor.name: tensor for tensor in optimized.graph.initializer}
    tables = [name for name in packed if name.startswith("W")]
    assert tables
    assert all(left[name].raw_data == packed[name] for name in tables), file.name
    elements = {name: int(np.prod(tensor.dims)) for name, tensor in left.items() if tensor.data_type != 2}
    dense = min(np.prod(tensor.dims) for tensor in onnx.load_from_string(file.dense).graph.initializer)
    assert all(count < dense for name, count in elements.items()), elements
