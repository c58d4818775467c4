"""Values inside the bodies of If, Loop and Scan, and the nodes that these bodies belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

STACKING = ("Loop", "Scan")
"""Operators whose bodies run several times: a value of theirs is given out for all times, stacked."""


@dataclass(frozen=True, eq=False)
class Owner:
    """A node and the body of it that holds something.

    Parameters
    ----------
    node : ir.Node
    body : ir.Graph
    """

    node: ir.Node
    body: ir.Graph


@dataclass(frozen=True, eq=False)
class Inside:
    """A value that a run of the model can be made to give out.

    Parameters
    ----------
    value : ir.Value
        The value.
    owners : tuple of Owner
        What it is inside of, the innermost first; empty in the main graph.
    """

    value: ir.Value
    owners: tuple[Owner, ...]

    @property
    def stacks(self) -> int:
        """Number of axes that bodies which run several times put before its own."""
        return sum(owner.node.op_type in STACKING for owner in self.owners)


def values_inside(model: ir.Model) -> dict[str, Inside]:
    """The values of the main graph and of all bodies by name; names that several graphs use are left out."""
    found: dict[str, Inside] = {}
    repeated = set()
    for inside in _all(model.graph, ()):
        name = str(inside.value.name)
        if name in found:
            repeated.add(name)
        found[name] = inside
    return {name: inside for name, inside in found.items() if name and name not in repeated}


def _all(graph: ir.Graph, owners: tuple[Owner, ...]) -> Iterator[Inside]:
    for value in graph.inputs:
        yield Inside(value, owners)
    for node in graph:
        for value in node.outputs:
            if value.name:
                yield Inside(value, owners)
        if node.domain == "" and node.op_type in ("If", *STACKING):
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                    body = attribute.as_graph()
                    yield from _all(body, (Owner(node, body), *owners))
