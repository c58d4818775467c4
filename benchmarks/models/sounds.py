"""Sounds with known content: speech of a synthesiser between noise and silence, and notes of made-up instruments."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

Array = npt.NDArray[Any]

# -- speech -----------------------------------------------------------------------------------------------------------

SPEECH_RATE = 16_000
TEST_VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb-scotland+m3")
CALIBRATION_VOICES = ("en-us+m7", "en-gb+f2", "en-gb-x-rp", "en-us+f5")


def speech(texts: Sequence[str], voices: Sequence[str], seed: int) -> Array:
    """Texts spoken in turn by voices of espeak-ng, with pauses, in white noise of changing strength: 16 kHz."""
    random = np.random.default_rng(seed)
    pieces = []
    for number, text in enumerate(texts):
        spoken = _spoken(text, voices[number % len(voices)]) * random.uniform(0.1, 1.0)
        pause = np.zeros(int(random.uniform(0.3, 1.5) * SPEECH_RATE))
        piece = np.concatenate([spoken, pause])
        pieces.append(piece + random.choice([0.0005, 0.003, 0.02]) * random.standard_normal(len(piece)))
    return np.concatenate(pieces).astype(np.float32)


def _spoken(text: str, voice: str) -> Array:
    if shutil.which("espeak-ng") is None:
        raise FileNotFoundError("espeak-ng must be on the path: install the package espeak-ng")
    command = ["espeak-ng", "-v", voice, "--stdout", "--", text]
    sound = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(sound)) as file:
        rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
    resampled: Array = resample_poly(samples / 32768, SPEECH_RATE, rate)
    return resampled


# -- notes ------------------------------------------------------------------------------------------------------------

NOTE_RATE = 22_050
WINDOW = 43_844
LOWEST_PITCH = 21
"""The first of 88 pitches, as a MIDI number."""

ONSET, SOUNDING = 0.5, 0.3
LEAST_FRAMES = 11
LATE = 4
"""A note is found again if its onset is at most so many frames off: 46 ms."""


def played(count: int, seed: int) -> Array:
    """Windows of two seconds with 5 to 14 notes each: float32 (count, 43844, 1)."""
    random = np.random.default_rng(seed)
    return np.stack([_window(random) for _ in range(count)])[:, :, None]


def _window(random: np.random.Generator) -> Array:
    sound = 0.001 * random.standard_normal(WINDOW)
    harmonics = np.arange(1, 13)
    gains = harmonics ** -random.uniform(0.8, 2.5) * random.uniform(0.3, 1, len(harmonics))
    decay = random.choice([0.0, 1.5, 4.0])
    for _ in range(random.integers(5, 15)):
        start, seconds = random.uniform(0, 1.7), random.uniform(0.15, 0.9)
        pitch = 440 * 2 ** ((int(random.integers(40, 90)) - 69) / 12)
        time = np.arange(min(int(seconds * NOTE_RATE), WINDOW - int(start * NOTE_RATE))) / NOTE_RATE
        audible = gains * (pitch * harmonics < NOTE_RATE / 2)
        vibrato = 0.3 * np.sin(2 * np.pi * 5 * time)
        note = np.sin((2 * np.pi * pitch * time + vibrato)[:, None] * harmonics) @ audible
        envelope = np.minimum(1, time / 0.008) * np.exp(-decay * time) * np.clip((time[-1] - time) / 0.02, 0, 1)
        sound[int(start * NOTE_RATE) :][: len(time)] += random.uniform(0.1, 0.5) * note * envelope
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def notes(onsets: Array, sounding: Array) -> Array:
    """Notes in two posteriors of shape (windows, frames, pitches): int64 (n, 3), window, pitch and first frame.

    A note begins at a peak of the onsets, and counts if its pitch then sounds for long enough.
    """
    padded = np.pad(onsets, ((0, 0), (1, 1), (0, 0)))
    peaks = (onsets >= ONSET) & (onsets > padded[:, :-2]) & (onsets >= padded[:, 2:])
    found = []
    for window, frame, pitch in np.argwhere(peaks):
        after = sounding[window, frame : frame + LEAST_FRAMES, pitch]
        if len(after) == LEAST_FRAMES and np.median(after) >= SOUNDING:
            found.append((window, pitch, frame))
    return np.array(found, np.int64).reshape(-1, 3)


def shared_notes(found: Array, wanted: Array) -> int:
    """Notes that are in both lists, one to one: same window and pitch, onsets at most `LATE` frames apart."""
    left: dict[tuple[int, int], list[int]] = {}
    for window, pitch, frame in wanted.tolist():
        left.setdefault((window, pitch), []).append(frame)
    count = 0
    for window, pitch, frame in found.tolist():
        frames = left.get((window, pitch), [])
        nearest = min(frames, key=lambda other: abs(other - frame), default=None)
        if nearest is not None and abs(nearest - frame) <= LATE:
            frames.remove(nearest)
            count += 1
    return count
