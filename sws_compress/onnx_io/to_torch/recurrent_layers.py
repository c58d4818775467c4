"""Recurrent operators, by torch's own kernels; gates are put in torch's order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator, UncoveredError

_ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""The gate of ONNX (i, o, f, c; z, r, h; i) that each gate of torch (i, f, g, o; r, z, n; h) is."""

_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _recurrent(
    attributes: Attributes, x: Tensor, inputs: Tensor, states: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, hidden: Tensor | None = None, cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> Sequence[Tensor]:  # fmt: skip
    """A layer of one or two directions.

    Shapes: x (steps, rows, features), inputs (directions, gates x size, features), states (..., size), bias
    (directions, 2 x gates x size), hidden and cell (directions, rows, size).
    """
    kind, directions = attributes.operator, inputs.shape[0]
    _refuse_other_forms(attributes, directions, peepholes)
    batch_first = bool(attributes.integer("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
        hidden, cell = (None if each is None else each.transpose(0, 1) for each in (hidden, cell))
    if lengths is not None and bool((lengths != x.shape[0]).any()):
        raise UncoveredError(f"{kind} with sequences of several lengths")
    size = states.shape[-1]
    if bias is None:
        bias = torch.zeros(directions, 2 * states.shape[1], dtype=x.dtype, device=x.device)
    none = torch.zeros(directions, x.shape[1], size, dtype=x.dtype, device=x.device)
    hidden, cell = (none if each is None else each for each in (hidden, cell))
    backwards = attributes.text("direction", "forward") == "reverse"
    weights = [
        part
        for number in range(directions)
        for part in _ordered(kind, size, inputs[number], states[number], *bias[number].chunk(2))
    ]
    if kind == "GRU" and not attributes.integer("linear_before_reset", 0):
        run, last = _gated(x, weights, hidden)
        found = [run, last]
    else:
        found = _run(kind, x.flip(0) if backwards else x, weights, hidden, cell)
        found[0] = found[0].flip(0) if backwards else found[0]
    rows = found[0].reshape(*x.shape[:2], directions, size)
    outputs = rows.permute(1, 0, 2, 3) if batch_first else rows.permute(0, 2, 1, 3)
    ends = [each.transpose(0, 1) if batch_first else each for each in found[1:]]
    return [outputs, *ends][: attributes.outputs]


def _refuse_other_forms(attributes: Attributes, directions: int, peepholes: Tensor | None) -> None:
    """Raise UncoveredError for what torch has no kernel for."""
    kind = attributes.operator
    wanted = _ACTIVATIONS[kind] * directions
    given = attributes.values.get("activations", wanted)
    if [str(each) for each in given] != wanted:
        raise UncoveredError(f"{kind} with activations {', '.join(map(str, given))}")
    if "clip" in attributes.values or peepholes is not None or attributes.integer("input_forget", 0):
        raise UncoveredError(f"{kind} with a clip, peepholes or coupled gates")
    if kind == "GRU" and not attributes.integer("linear_before_reset", 0) and (
        directions > 1 or attributes.text("direction", "forward") != "forward"
    ):  # fmt: skip
        raise UncoveredError("GRU with linear_before_reset 0 backwards")


def _ordered(kind: str, size: int, *parts: Tensor) -> list[Tensor]:
    """Weights and biases with their gates in torch's order."""
    order = _ORDERS[kind]
    return [part.reshape(len(order), size, *part.shape[1:])[list(order)].reshape(part.shape) for part in parts]


def _run(kind: str, x: Tensor, weights: list[Tensor], hidden: Tensor, cell: Tensor) -> list[Tensor]:
    """Outputs of all steps, and the last states."""
    settings = (True, 1, 0.0, False, len(weights) > 4, False)
    if kind == "LSTM":
        return list(torch.lstm(x, (hidden, cell), weights, *settings))
    return list((torch.gru if kind == "GRU" else torch.rnn_tanh)(x, hidden, weights, *settings))


def _gated(x: Tensor, weights: list[Tensor], hidden: Tensor) -> tuple[Tensor, Tensor]:
    """A GRU that resets the state before its product, which torch does after it."""
    of_inputs, of_states, bias, state_bias = weights
    size, state = of_states.shape[-1], hidden[0]
    moved = x @ of_inputs.mT + bias
    outputs = []
    for step in moved:
        gates = torch.sigmoid(step[:, : 2 * size] + state @ of_states[: 2 * size].mT + state_bias[: 2 * size])
        reset, kept = gates.chunk(2, dim=1)
        new = torch.tanh(step[:, 2 * size :] + (reset * state) @ of_states[2 * size :].mT + state_bias[2 * size :])
        state = (1 - kept) * new + kept * state
        outputs.append(state)
    return torch.stack(outputs), state[None]


OPERATORS: dict[str, Operator] = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
"""Functions by operator."""
