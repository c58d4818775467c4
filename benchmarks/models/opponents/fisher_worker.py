"""Fisher information of the weights of a model, in the environment of `requirements-fisher.txt`.

    python -m benchmarks.models.opponents.fisher_worker MODEL.onnx FEEDS.npz TARGET.npz

It is the mean square of the gradients of a sum of all outputs with random signs, over the calibration inputs: the
diagonal of J^T J for the Jacobian J, the Fisher information if outputs had noise of one size. Weights are numbered as
`tensors.float_tensors` does; those that the converted network does not hold are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import onnx

from benchmarks.models.opponents.nncodec_worker import TORCHVISION
from benchmarks.models.opponents.onnx_worker import LEAST_WEIGHTS, feeds_of, with_initialisers
from benchmarks.models.opponents.tensors import Array, float_tensors

NEWEST = 16
"""Newest operator set that is converted; of what is newer, models use axes of reductions as inputs."""


def converted(model: onnx.ModelProto) -> Any:
    """A torch module of a model, by onnx2torch, which knows weights in initialisers alone and no GlobalMaxPool."""
    import torch
    from onnx2torch import convert
    from onnx2torch.node_converters.registry import add_converter
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    class GlobalMaxPool(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values.amax(dim=tuple(range(2, values.dim())), keepdim=True)

    def pool(node: Any, _: Any) -> Any:
        return OperationConverterResult(torch_module=GlobalMaxPool(), onnx_mapping=onnx_mapping_from_node(node))

    add_converter(operation_type="GlobalMaxPool", version=1)(pool)
    with_initialisers(model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type.startswith("Reduce") and len(node.input) == 2:
            node.attribute.append(onnx.helper.make_attribute("axes", constants[node.input.pop()].tolist()))
    for entry in model.opset_import:
        entry.version = min(entry.version, NEWEST) if entry.domain == "" else entry.version
    return convert(onnx.shape_inference.infer_shapes(model)).eval()


def places_of(network: Any, weights: dict[str, Array]) -> dict[str, tuple[Any, bool]]:
    """Tensors of the network that hold these weights, and whether they hold them transposed."""
    held = [*network.parameters(), *(each for each in network.buffers() if each.is_floating_point())]
    found = {}
    for number, weight in weights.items():
        for tensor in held:
            values = tensor.detach().numpy()
            if np.array_equal(values, weight):
                found[number] = (tensor, False)
            elif weight.ndim == 2 and np.array_equal(values.T, weight):
                found[number] = (tensor, True)
    return found


def main() -> None:
    for name in (*TORCHVISION, ".ops"):
        sys.modules[f"torchvision{name}"] = MagicMock()
    import torch

    model, feeds, target = map(Path, sys.argv[1:4])
    dense = onnx.load(model)
    weights = float_tensors(dense, least_size=LEAST_WEIGHTS, least_rank=2)
    names = [entry.name for entry in dense.graph.input]
    network = converted(onnx.load(model))
    places = places_of(network, weights)
    if not places:
        raise ValueError("the converted network holds none of the weights")
    tensors = [tensor.requires_grad_(True) for tensor, _ in places.values()]
    random = torch.Generator().manual_seed(0)
    sums = [torch.zeros_like(tensor) for tensor in tensors]
    for feed in feeds_of(feeds):
        outputs = network(*(torch.from_numpy(feed[name]) for name in names))
        total = sum(
            (output * (2 * torch.randint(0, 2, output.shape, generator=random) - 1)).sum()
            for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])
        )
        for kept, gradient in zip(sums, torch.autograd.grad(total, tensors, allow_unused=True), strict=True):
            if gradient is not None:
                kept += gradient.square()
    found = {
        number: (kept.T if transposed else kept).contiguous().numpy()
        for (number, (_, transposed)), kept in zip(places.items(), sums, strict=True)
    }
    np.savez(target, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
