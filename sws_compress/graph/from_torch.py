"""A torch module as an ordinary dense ONNX model, by torch's ``torch.export``-based exporter."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

EXPORTER_OPSET = 18
FOLD_BYTES = 1 << 31


def from_torch(model: nn.Module, example_inputs: tuple[Any, ...], *, opset: int = EXPORTER_OPSET) -> ir.Model:
    """The module in evaluation mode, its parameters as initialisers under their torch names.

    ``example_inputs`` are the positional arguments of one call. Their first dimension stays free where the module
    allows it: an example of at least two rows leaves the batch dimension dynamic. Outputs are named ``output`` (or
    ``output_0``, ``output_1``, ...). Raises ModelError when torch cannot export the module.

    Constants are folded, but batch normalisation is kept apart from convolutions (torch's own ``optimize=True`` merges
    them): merging multiplies each row of a weight by its own factor and destroys the codebook.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                example_inputs,
                dynamo=True,
                optimize=False,
                opset_version=opset,
                dynamic_shapes=_free_sizes(example_inputs),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds; all mean that this module does not go through it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{type(model).__name__} must be exportable by torch.onnx.export, got: {reason}: "
            "export it yourself and compress the .onnx file"
        ) from error
    finally:
        model.train(was_training)
    assert program is not None
    _simplify(program.model)
    outputs = program.model.graph.outputs
    for i, value in enumerate(outputs):
        value.name = "output" if len(outputs) == 1 else f"output_{i}"
    return program.model


def _simplify(model: ir.Model) -> None:
    """Torch's default optimisation without its rewrite rules, among which is the merging of batch norms."""
    from onnxscript import optimizer

    optimizer.inline(model)
    # Gates of recurrent weights are put in order by operators on constants: fold them, whatever their size.
    optimizer.fold_constants_ir(model, input_size_limit=FOLD_BYTES, output_size_limit=FOLD_BYTES)
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


def _free_sizes(value: Any) -> Any:
    """The first dimension of every tensor marked as free; torch.export fixes it where the module does."""
    import torch

    if isinstance(value, torch.Tensor):
        return {0: torch.export.Dim.AUTO} if value.dim() else None
    if isinstance(value, list | tuple):
        return type(value)(_free_sizes(item) for item in value)
    if isinstance(value, dict):
        return {key: _free_sizes(item) for key, item in value.items()}
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that the model does not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
