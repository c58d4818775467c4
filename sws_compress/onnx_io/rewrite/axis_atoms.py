"""The axes of a tensor, as a chain of nodes that reshape, transpose and select moves them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sws_compress.onnx_io.rewrite.sizes_of_axes import ONE, Length, Lengths, Shapes, product

MOVING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze")
"""Operators that only move what they read."""


@dataclass
class AxisAtoms:
    """The axes of a source in parts (atoms) that a chain of nodes moves as a whole.

    Parameters
    ----------
    source : list of list of int
        For each axis of the source its atoms, from the outermost to the innermost.
    moved : list of list of int
        The same for what the chain has made of it.
    lengths : list of Length
        Length of each atom. Axes of length 1 have no atoms.
    picked : list of (int, int)
        Atoms of which one index is left, and the index; they are in no axis any more.
    """

    source: list[list[int]]
    moved: list[list[int]]
    lengths: list[Length]
    picked: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, shape: Lengths) -> AxisAtoms:
        """A tensor as it is."""
        lengths = [length for length in shape if length != ONE]
        numbers = iter(range(len(lengths)))
        axes = [[] if length == ONE else [next(numbers)] for length in shape]
        return cls(axes, [list(axis) for axis in axes], lengths)

    @property
    def shape(self) -> Lengths:
        """Lengths of the axes that the chain has made."""
        return tuple(self.length(axis) for axis in self.moved)

    def length(self, atoms: Sequence[int]) -> Length:
        return product(self.lengths[atom] for atom in atoms)

    def follow(self, node: ir.Node, shapes: Shapes) -> bool:
        """Move the axes as ``node`` does, in place; False if it cannot be told."""
        if node.op_type == "Gather":
            return self._pick(node, shapes)
        shape = shapes.moved(node, self.shape)
        if shape is None:
            return False
        if node.op_type == "Transpose":
            axes = node.attributes.get_ints("perm", tuple(reversed(range(len(shape)))))
            self.moved = [self.moved[axis] for axis in axes]
            return True
        return self._regroup(shape)

    def _pick(self, node: ir.Node, shapes: Shapes) -> bool:
        """Take one index of an axis."""
        index = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
        axis = node.attributes.get_int("axis", 0)
        if index is None or len(index.shape) or not -len(self.moved) <= axis < len(self.moved):
            return False
        atoms = self.moved[axis]
        if len(atoms) != 1 or self.picked:
            return False
        self.picked.append((atoms[0], int(index.numpy())))
        del self.moved[axis % len(self.moved)]
        return True

    def _regroup(self, shape: Lengths) -> bool:
        """Divide all atoms, in their order, among axes of other lengths."""
        waiting = list(itertools.chain.from_iterable(self.moved))
        groups: list[list[int]] = []
        for length in shape:
            group: list[int] = []
            while length != ONE:
                if not waiting:
                    return False
                rest = length.over(self.lengths[waiting[0]])
                if rest is None:
                    if not self._split(waiting, length):
                        return False
                    rest = ONE
                group.append(waiting.pop(0))
                length = rest
            groups.append(group)
        self.moved = groups
        return not waiting

    def _split(self, waiting: list[int], outer: Length) -> bool:
        """Split the first atom that waits into one of length ``outer`` and the rest."""
        atom = waiting[0]
        inner = self.lengths[atom].over(outer)
        if inner is None or any(atom == each for each, _ in self.picked):
            return False
        fresh = len(self.lengths)
        self.lengths[atom] = outer
        self.lengths.append(inner)
        for axes in (self.source, self.moved, [waiting]):
            for axis in axes:
                if atom in axis:
                    axis.insert(axis.index(atom) + 1, fresh)
        return True
