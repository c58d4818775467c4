"""Pictures for a detector of people, from what packages ship; calibration and test share none.

Test scenes are crops of the two pictures of ultralytics (a street with four people, two people at a game), and faces
of the later half of scikit-image's subset of Labeled Faces in the Wild, set into collages of CIFAR test images.
Calibration scenes are crops of five pictures of scikit-image (an astronaut, a photographer, a cup, a motorcycle, a cat)
and faces of the earlier half in collages of CIFAR training images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.records.data import CIFAR_JPEG, jpeg_split

Array = npt.NDArray[Any]

SIDE = 320
FACES = "skimage/data/lfw_subset.npy"
FACE_COUNT = 100
"""The first so many images of that file are faces."""

TEST = ("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg")
CALIBRATION = tuple(
    f"skimage/data/{name}.png" for name in ("astronaut", "camera", "coffee", "motorcycle_left", "chelsea")
)


def scenes(part: str, count: int, data: Path, packages: Path) -> Array:
    """Scenes of a part, "test" or "train": float32 (count, 3, 320, 320), 0..1."""
    random = np.random.default_rng({"test": 0, "train": 1}[part])
    pictures = [Image.open(packages / path).convert("RGB") for path in (TEST if part == "test" else CALIBRATION)]
    half = FACE_COUNT // 2
    faces = np.load(packages / FACES, allow_pickle=False)[:FACE_COUNT][
        slice(half, None) if part == "test" else slice(half)
    ]
    tiles = jpeg_split(data / CIFAR_JPEG, part)[0].numpy()[:5000].transpose(0, 2, 3, 1)
    made = [
        _collage(faces, tiles, random) if number % 2 else _crop(pictures[number // 2 % len(pictures)], random)
        for number in range(count)
    ]
    return np.stack(made).transpose(0, 3, 1, 2).astype(np.float32) / 255


def _crop(picture: Image.Image, random: np.random.Generator) -> Array:
    """A part of a picture on a black square, as the detector's package pads it, mirrored or shaded."""
    width, height = (int(size * random.uniform(0.4, 1.0)) for size in picture.size)
    left, top = (
        int(random.integers(0, whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
    )
    part = picture.crop((left, top, left + width, top + height))
    if random.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    square = Image.new("RGB", (max(part.size),) * 2)
    square.paste(part)
    shade = random.uniform(0.7, 1.2)
    return np.minimum(np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) * shade, 255)


def _collage(faces: Array, tiles: Array, random: np.random.Generator) -> Array:
    """Up to four faces on four enlarged images."""
    canvas = Image.new("RGB", (SIDE, SIDE))
    half = SIDE // 2
    for corner in ((0, 0), (half, 0), (0, half), (half, half)):
        tile = Image.fromarray(tiles[random.integers(len(tiles))].astype(np.uint8))
        canvas.paste(tile.resize((half, half), Image.Resampling.BICUBIC), corner)
        if random.random() < 0.75:
            face = faces[random.integers(len(faces))]
            side = int(random.integers(70, 130))
            shown = Image.fromarray((255 * face / face.max()).astype(np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            )
            across, down = (int(random.integers(0, half - side)) for _ in corner)
            canvas.paste(shown, (corner[0] + across, corner[1] + down))
    return np.asarray(canvas, np.float32)
