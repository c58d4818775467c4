"""Boxes that a detector finds, and how many of them another finds as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LEAST_SCORE = 0.25
SAME_OBJECT = 0.45
"""Boxes of one class that overlap by more are one object."""

SAME_BOX = 0.5
"""A box is found again if one of the same class overlaps it by at least so much."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Detections of one image.

    ``corners`` is (n, 4): left, top, right and bottom in pixels; ``kinds`` (n,) are classes, best box first.
    """

    corners: Array
    kinds: Array

    def __len__(self) -> int:
        return len(self.kinds)


def overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of every pair of boxes, (n, 4) and (m, 4): left, top, right, bottom."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros(common.shape), where=union > 0)


def detections(answer: Array) -> Boxes:
    """Boxes of one image in the output of a YOLOv8: (4 + classes, places), centre and size before the classes."""
    scores = answer[4:]
    best = scores.max(axis=0)
    kept = np.flatnonzero(best >= LEAST_SCORE)
    kept = kept[np.argsort(-best[kept], kind="stable")]
    centre, half = answer[:2, kept].T, answer[2:4, kept].T / 2
    corners, kinds = np.concatenate([centre - half, centre + half], axis=1), scores[:, kept].argmax(axis=0)
    same = (overlaps(corners, corners) > SAME_OBJECT) & (kinds[:, None] == kinds[None])
    chosen: list[int] = []
    for index in range(len(kept)):
        if not same[index, chosen].any():
            chosen.append(index)
    return Boxes(corners[chosen], kinds[chosen])


def matches(found: Boxes, wanted: Boxes) -> int:
    """Boxes that are in both, one to one, the largest overlaps first."""
    shared = overlaps(found.corners, wanted.corners) * (found.kinds[:, None] == wanted.kinds[None])
    count = 0
    while shared.size and shared.max() >= SAME_BOX:
        row, column = np.unravel_index(shared.argmax(), shared.shape)
        shared[row], shared[:, column] = 0, 0
        count += 1
    return count


def agreement(common: int, first: int, second: int) -> float:
    """Percent of the things in either of two lists that are in both: 200 common / (first + second)."""
    return 100.0 if first + second == 0 else 200 * common / (first + second)
