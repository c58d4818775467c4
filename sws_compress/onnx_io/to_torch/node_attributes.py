"""What a function of the table gets besides tensors, and what it raises for what is not covered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

MOST_ELEMENTS = 1 << 28
"""Elements of a tensor whose shape a model computes: a gigabyte of float32. A network that ONNX Runtime has run within
its limits needs no more; a shape that a file makes up is refused before memory is taken."""


class UncoveredError(Exception):
    """A node, or a form of it, that the table does not cover."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of a node, by type, and the number of its outputs.

    Parameters
    ----------
    operator : str
        Name of the operator.
    values : mapping of str to object
        Integers, floats, strings, lists of them, and tensors.
    outputs : int
        Outputs of the node, those that are not named included.
    """

    operator: str
    values: Mapping[str, Any]
    outputs: int

    def integer(self, name: str, default: int) -> int:
        """An integer."""
        return int(self.values.get(name, default))

    def real(self, name: str, default: float) -> float:
        """A float."""
        return float(self.values.get(name, default))

    def text(self, name: str, default: str) -> str:
        """A string."""
        return str(self.values.get(name, default))

    def integers(self, name: str) -> list[int] | None:
        """Integers; None if there are none."""
        found = self.values.get(name)
        return None if found is None else [int(each) for each in found]

    def only(self, name: str, *allowed: object) -> None:
        """Raise UncoveredError unless an attribute is absent or has one of these values."""
        found = self.values.get(name, allowed[0])
        if found not in allowed:
            raise UncoveredError(f"{self.operator} with {name} {found}")


Operator: TypeAlias = Callable[..., "torch.Tensor | Sequence[torch.Tensor]"]
"""Takes the attributes, then the inputs in order, None for those that are left out."""


def whole_numbers(tensor: torch.Tensor) -> list[int]:
    """The integers that a tensor holds."""
    return [int(each) for each in tensor.reshape(-1).tolist()]


def bounded(shape: Sequence[int]) -> list[int]:
    """A shape that a model has computed. Raises UncoveredError if it has too many elements."""
    if math.prod(max(size, 0) for size in shape) > MOST_ELEMENTS:
        raise UncoveredError(f"a tensor of shape {list(shape)}")
    return list(shape)


def axes_of(attributes: Attributes, axes: torch.Tensor | None, rank: int) -> list[int] | None:
    """Axes from 0, of an input or else of an attribute; None if neither gives any."""
    found = attributes.integers("axes") if axes is None else whole_numbers(axes)
    return None if found is None else [axis + rank if axis < 0 else axis for axis in found]
