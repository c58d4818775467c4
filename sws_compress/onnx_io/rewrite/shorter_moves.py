"""Chains of nodes that move tensors, written in as few nodes as they need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.onnx_io.rewrite.axis_atoms import MOVING, AxisAtoms
from sws_compress.onnx_io.rewrite.sizes_of_axes import ONE, Length, Lengths, Shapes, constant, constant_shape


@dataclass(frozen=True)
class Move:
    """One node of a chain.

    Parameters
    ----------
    operator : str
        Reshape, Transpose, Squeeze, Unsqueeze, or Gather of one index of the first axis.
    numbers : tuple of int
        The new shape, the order of axes, the axes, or the index.
    """

    operator: str
    numbers: tuple[int, ...]


Plan = tuple[Move, ...]


def shorten_moves(graph: ir.Graph, *, through_gathers: bool) -> None:
    """Write chains of moves in fewer nodes where they can be, in place; nodes that nothing reads any more may stay.

    Parameters
    ----------
    graph : ir.Graph
        The graph.
    through_gathers : bool
        Whether axes are put in order before an index of one of them is taken: heads of attention are split before
        queries, keys and values are told apart. It pays where several chains begin alike.
    """
    shapes = Shapes(graph)
    for node in list(graph):
        if not _moves(node, through_gathers) or not _is_read(node, through_gathers):
            continue
        chain = list(_chain(node, through_gathers))
        best = _best_plan(chain, shapes, through_gathers)
        if best is not None:
            _replace(graph, node, *best)


def _moves(node: ir.Node, through_gathers: bool) -> bool:
    """Whether a node may be part of a chain."""
    if node.domain or len(node.outputs) != 1 or not node.inputs or node.inputs[0] is None:
        return False
    return node.op_type in MOVING or (through_gathers and node.op_type == "Gather")


def _is_read(node: ir.Node, through_gathers: bool) -> bool:
    """Whether a chain ends here: something else reads the output, or it is one of the graph."""
    output = node.outputs[0]
    return output.is_graph_output() or any(
        not _moves(user, through_gathers) or number or user.graph is not node.graph for user, number in output.uses()
    )


def _chain(node: ir.Node, through_gathers: bool) -> Iterator[ir.Node]:
    """The nodes that end with ``node``, the last one first."""
    each: ir.Node | None = node
    while each is not None and _moves(each, through_gathers) and each.graph is node.graph:
        yield each
        each = each.inputs[0].producer() if each.inputs[0] is not None else None


def _best_plan(chain: Sequence[ir.Node], shapes: Shapes, through_gathers: bool) -> tuple[ir.Value, Plan] | None:
    """The value that a new chain begins with, and its nodes: those that save the most, and at least one."""
    best: tuple[ir.Value, Plan] | None = None
    most, alone = 0, 0
    exclusive = True
    for number, first in enumerate(chain):
        exclusive = exclusive and (number == 0 or len(first.outputs[0].uses()) == 1)
        alone += exclusive
        source = first.inputs[0]
        plan = None if source is None else _plan(source, chain[number::-1], shapes)
        if source is None or plan is None:
            continue
        gathered = through_gathers and any(node.op_type == "Gather" for node in chain[: number + 1])
        if gathered or alone - len(plan) > most:
            best, most = (source, plan), max(most, alone - len(plan))
    return best


def _plan(source: ir.Value, chain: Sequence[ir.Node], shapes: Shapes) -> Plan | None:
    """The fewest moves that do what a chain does; None if that cannot be told."""
    shape = shapes.of(source)
    if shape is None or any(length.number < 1 for length in shape):
        return None
    atoms = AxisAtoms.of(shape)
    if not all(atoms.follow(node, shapes) for node in chain):
        return None
    plans = (plan for plan in (_as_axes(atoms, shape), *_in_blocks(atoms, shape)) if plan is not None)
    return min(plans, key=lambda plan: (len(plan), sum(len(move.numbers) for move in plan)), default=None)


def _as_axes(atoms: AxisAtoms, shape: Lengths) -> Plan | None:
    """Moves of the axes of the source as they are, and then another shape."""
    order = _order(atoms)
    units = [axis for axis, held in enumerate(atoms.source) if not held]
    first_of = {held[0]: axis for axis, held in enumerate(atoms.source) if held}
    permutation: list[int] = []
    for group in [[atom] for atom, _ in atoms.picked] + atoms.moved:
        if not group and units:
            permutation.append(units.pop(0))
        permutation += [first_of[atom] for atom in group if atom in first_of]
    permutation += units
    if list(itertools.chain.from_iterable(atoms.source[axis] for axis in permutation)) != order:
        return None
    if any(atoms.source[axis] != [atom] for axis, (atom, _) in zip(permutation, atoms.picked, strict=False)):
        return None
    moved = tuple(shape[axis] for axis in permutation)
    return _joined(_transposed(permutation), _picked(atoms), _reshaped(moved[len(atoms.picked) :], atoms.shape))


def _in_blocks(atoms: AxisAtoms, shape: Lengths) -> Iterator[Plan | None]:
    """Moves behind another shape, whose axes are what stays together; axes of length 1 are put among them, or later."""
    order, sequence = _order(atoms), list(itertools.chain.from_iterable(atoms.source))
    place = {atom: number for number, atom in enumerate(order)}
    alone = {atom for atom, _ in atoms.picked}
    ends = {group[-1] for group in atoms.moved if group}
    for cut in (True, False):
        blocks: list[list[int]] = []
        for atom in sequence:
            last = blocks[-1][-1] if blocks else None
            together = last is not None and place[atom] == place[last] + 1 and not {atom, last} & alone
            if together and not (cut and last in ends):
                blocks[-1].append(atom)
            else:
                blocks.append([atom])
        units = sum(not group for group in atoms.moved) if cut else 0
        first = (*(atoms.length(block) for block in blocks), *(ONE,) * units)
        number_of = {block[0]: number for number, block in enumerate(blocks)}
        fresh = iter(range(len(blocks), len(first)))
        permutation = [number_of[atom] for atom, _ in atoms.picked]
        for group in atoms.moved:
            permutation += [next(fresh)] if cut and not group else [number_of[a] for a in group if a in number_of]
        moved = tuple(first[axis] for axis in permutation)[len(atoms.picked) :]
        yield _joined(_reshaped(shape, first), _transposed(permutation), _picked(atoms), _reshaped(moved, atoms.shape))


def _order(atoms: AxisAtoms) -> list[int]:
    """All atoms as the chain leaves them, those of which one index is left in front."""
    return [atom for atom, _ in atoms.picked] + list(itertools.chain.from_iterable(atoms.moved))


def _joined(*parts: Plan | None) -> Plan | None:
    known = [part for part in parts if part is not None]
    return tuple(itertools.chain.from_iterable(known)) if len(known) == len(parts) else None


def _transposed(permutation: Sequence[int]) -> Plan:
    return () if list(permutation) == sorted(permutation) else (Move("Transpose", tuple(permutation)),)


def _picked(atoms: AxisAtoms) -> Plan:
    return tuple(Move("Gather", (index,)) for _, index in atoms.picked)


def _reshaped(shape: Lengths, wanted: Lengths) -> Plan | None:
    """The node that gives a tensor another shape, if it needs one; None if it would have to compute it."""
    if shape == wanted:
        return ()
    if (dropped := _units(shape, wanted)) is not None:
        return (Move("Squeeze", dropped),)
    if (added := _units(wanted, shape)) is not None:
        return (Move("Unsqueeze", added),)
    numbers = constant_shape(shape, wanted)
    return None if numbers is None else (Move("Reshape", tuple(numbers)),)


def _units(long: Lengths, short: Lengths) -> tuple[int, ...] | None:
    """Axes of length 1 without which a shape is a shorter one; None if there are none such."""
    found: list[int] = []
    rest: list[Length] = list(short)
    for axis, length in enumerate(long):
        if rest and rest[0] == length:
            rest.pop(0)
        elif length == ONE:
            found.append(axis)
        else:
            return None
    return None if rest else tuple(found)


def _replace(graph: ir.Graph, node: ir.Node, source: ir.Value, plan: Plan) -> None:
    """Let what reads the output of ``node`` read a new chain instead, whose last value may become one of the graph."""
    value, old = source, node.outputs[0]
    if not plan and old.is_graph_output():
        return
    for move in plan:
        if move.operator == "Transpose":
            fresh = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", move.numbers)])
        else:
            numbers = move.numbers[0] if move.operator == "Gather" else move.numbers
            fresh = ir.Node("", move.operator, [value, constant(graph, numbers)])
        graph.insert_before(node, fresh)
        (value,) = fresh.outputs
    if value is not source:
        value.shape, value.type = old.shape, old.type
    if old.is_graph_output():
        value.name, old.name = old.name, None
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
