"""Scores of the benchmark of real models: boxes and notes found again, texts that are the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.models.boxes import Boxes, agreement, detections, matches, overlaps
from benchmarks.models.captchas import HEIGHT, captchas
from benchmarks.models.sounds import LATE, LEAST_FRAMES, notes, played, shared_notes


def boxes(*rows: tuple[float, float, float, float, int]) -> Boxes:
    return Boxes(np.array([row[:4] for row in rows], float).reshape(-1, 4), np.array([row[4] for row in rows], int))


def test_overlaps_are_those_of_counted_pixels() -> None:
    random = np.random.default_rng(0)
    corners = np.sort(random.integers(0, 20, (12, 2, 2)), axis=1).reshape(12, 4)
    masks = np.zeros((12, 20, 20), bool)
    for mask, (left, top, right, bottom) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    common = (masks[:, None] & masks[None]).sum((2, 3))
    either = (masks[:, None] | masks[None]).sum((2, 3))
    np.testing.assert_allclose(overlaps(corners, corners), common / np.maximum(either, 1))


def test_a_box_is_found_again_once_and_only_in_its_class() -> None:
    one, moved, other_class, far = (0, 0, 10, 10, 1), (0, 0, 10, 9, 1), (0, 0, 10, 10, 2), (50, 50, 60, 60, 1)
    assert matches(boxes(one, far), boxes(far, moved)) == 2
    assert matches(boxes(one, moved), boxes(one)) == 1
    assert matches(boxes(one), boxes(other_class)) == 0
    assert matches(boxes(one), boxes(far)) == 0
    assert matches(boxes(), boxes(one)) == 0


def test_detections_drop_the_weaker_of_two_boxes_of_one_object() -> None:
    centres = np.array([[50, 50, 20, 20], [51, 50, 20, 20], [51, 50, 20, 20], [90, 20, 10, 10], [30, 30, 9, 9]], float)
    scores = np.array([[0.8, 0], [0.9, 0.1], [0.1, 0.6], [0.3, 0.5], [0.2, 0.1]])
    found = detections(np.concatenate([centres, scores], axis=1).T)
    assert found.kinds.tolist() == [0, 1, 1]  # the best one, the other class there, the one far away
    np.testing.assert_array_equal(found.corners[0], [41, 40, 61, 60])


@pytest.mark.parametrize(
    ("common", "first", "second", "wanted"), [(3, 3, 3, 100), (0, 2, 5, 0), (2, 4, 4, 50), (0, 0, 0, 100)]
)
def test_agreement(common: int, first: int, second: int, wanted: float) -> None:
    assert agreement(common, first, second) == wanted


def test_notes_begin_at_peaks_and_must_last() -> None:
    onsets, sounding = np.zeros((2, 60, 88)), np.zeros((2, 60, 88))
    onsets[0, 10:13, 5] = 0.6, 0.9, 0.7
    sounding[0, 11 : 11 + LEAST_FRAMES, 5] = 0.8
    onsets[1, 20, 7] = 0.9  # sounds too briefly
    sounding[1, 20:23, 7] = 0.9
    assert notes(onsets, sounding).tolist() == [[0, 5, 11]]


def test_notes_are_shared_if_they_begin_together() -> None:
    first = np.array([[0, 5, 10], [0, 5, 30], [1, 5, 10]])
    for moved, wanted in (((0, 0, LATE), 3), ((0, 0, LATE + 1), 0), ((0, 1, 0), 0)):
        assert shared_notes(first, first + np.array(moved)) == wanted
    assert shared_notes(np.array([[0, 5, 10], [0, 5, 11]]), np.array([[0, 5, 10]])) == 1


def test_captchas_and_notes_follow_their_seed() -> None:
    texts, images = captchas(3, seed=4)
    again = captchas(3, seed=4)
    assert texts == again[0] != captchas(3, seed=5)[0]
    for image, other in zip(images, again[1], strict=True):
        assert image.shape[:3] == (1, 1, HEIGHT)
        assert 0 <= image.min() < image.max() <= 1
        np.testing.assert_array_equal(image, other)
    np.testing.assert_array_equal(played(1, seed=2), played(1, seed=2))
