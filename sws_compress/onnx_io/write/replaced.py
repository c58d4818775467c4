"""Models with other values in their initialisers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx_ir as ir


def with_values(model: ir.Model, values: Mapping[str, npt.NDArray[Any]]) -> ir.Model:
    """A copy of the model in which the initialisers of these names hold other values; ``model`` stays as it is."""
    changed = model.clone()
    for name, array in values.items():
        changed.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return changed
