"""Captchas with known text: distorted letters and digits, drawn with the fonts of matplotlib."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Array = npt.NDArray[Any]

HEIGHT, ADVANCE = 64, 25
SIGNS = "abcdefghjkmnpqrstuvwxy3456789"
"""Letters and digits that are not taken for one another."""

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")


def captchas(count: int, seed: int) -> tuple[list[str], list[Array]]:
    """Texts of four to six signs, and their images: float32 (1, 1, 64, width), 0..1."""
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(list(SIGNS), random.integers(4, 7))) for _ in range(count)]
    return texts, [_drawn(text, random) for text in texts]


def _drawn(text: str, random: np.random.Generator) -> Array:
    width = ADVANCE * len(text) + 30
    canvas = Image.new("L", (width, HEIGHT), int(random.integers(215, 256)))
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(folder / f"{random.choice(FONTS)}.ttf", int(random.integers(34, 42)))
    for position, sign in enumerate(text):
        mask = Image.new("L", (60, HEIGHT))
        ImageDraw.Draw(mask).text((30, 32), sign, 255, font=font, anchor="mm")
        mask = mask.rotate(random.uniform(-35, 35), Image.Resampling.BICUBIC)
        place = (ADVANCE * position - 3 + int(random.integers(-3, 4)), int(random.integers(-5, 6)))
        canvas.paste(int(random.integers(0, 110)), place, mask)
    pen = ImageDraw.Draw(canvas)
    for _ in range(3):
        ends = [(int(x), int(y)) for x, y in zip(np.linspace(0, width, 6), random.integers(4, 60, 6), strict=True)]
        pen.line(ends, int(random.integers(40, 150)), int(random.integers(1, 3)))
    waved = _waved(np.asarray(canvas, np.float32), random)
    specks = random.random(waved.shape) < 0.05
    waved[specks] = random.uniform(0, 255, int(specks.sum()))
    return waved[None, None] / 255


def _waved(image: Array, random: np.random.Generator) -> Array:
    """Columns moved up and down along a sine wave."""
    high, length, phase = random.uniform(1, 4), random.uniform(50, 110), random.uniform(0, 2 * math.pi)
    shift = np.round(high * np.sin(2 * math.pi * np.arange(image.shape[1]) / length + phase)).astype(int)
    rows = np.clip(np.arange(HEIGHT)[:, None] - shift[None], 0, HEIGHT - 1)
    moved: Array = np.take_along_axis(image, rows, axis=0).astype(np.float32)
    return moved


def signs_of(path: Path) -> list[str]:
    """The signs that a reader's outputs stand for, from the sources of its package; the first is the blank."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CHARSET_BETA":
            signs: list[str] = ast.literal_eval(node.value)
            return signs
    raise ValueError(f"{path} must hold the list CHARSET_BETA: check the version of the package")
