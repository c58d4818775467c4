"""What a call in the child process may take. A small hostile model is stopped soon; a large honest one is not."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one call may take.

    Parameters
    ----------
    seconds : float
        Time from sending the request to having read the answer.
    memory_bytes : int
        Memory besides what the child holds already. Linux enforces it; other systems do not.
    """

    seconds: float
    memory_bytes: int

    @property
    def answer_bytes(self) -> int:
        """Bytes of its answer, of which this process makes some copies: half a gigabyte, and more for larger models."""
        return max(self.memory_bytes // 4, self.memory_bytes - 3 * BASE_MEMORY_BYTES // 4)


BASE_MEMORY_BYTES = 2 << 30
"""Every model may take as much: threads, working space of convolutions, activations of small networks."""

MEMORY_PER_BYTE = 64
"""Bytes of memory per byte of a model and its inputs. Weights decode to some 10 to 30 times their bytes and a runtime
keeps a few copies; features of images take up to 60 times the bytes of the images."""

BASE_LOAD_SECONDS = 10.0
"""Every model may load as long: a thousand times what a small one takes."""

LOAD_SECONDS_PER_BYTE = 1e-5
"""10 s per megabyte: decoders with the tightest codes take about 2 s per million weights, and 5 of them make a
megabyte. Plain models take a thousandth of it."""

BASE_RUN_SECONDS = 5.0
"""Every model may run as long on inputs that nobody asked for: what takes longer is not compared, and that is told."""

RUN_SECONDS_PER_BYTE = 1e-6
"""1 s per megabyte: ten thousand products per weight, as convolutions on an image have, at a few per nanosecond."""

GIVEN_SECONDS = 600.0
"""Least time to run on inputs that the caller gave: the caller knows what they take, and can interrupt."""

OWN_SECONDS = 3600.0
"""Time for a file that this package wrote from a model that ran before: it ends in any case."""


def loading(model_bytes: int) -> Limits:
    """Limits of loading a model of so many bytes, its external data included."""
    return Limits(
        seconds=BASE_LOAD_SECONDS + LOAD_SECONDS_PER_BYTE * model_bytes, memory_bytes=_memory_bytes(model_bytes)
    )


def running(model_bytes: int, input_bytes: int, *, given: bool) -> Limits:
    """Limits of running a model on inputs of so many bytes, which the caller gave or which are only tried."""
    seconds = BASE_RUN_SECONDS + RUN_SECONDS_PER_BYTE * model_bytes
    return Limits(
        seconds=max(seconds, GIVEN_SECONDS) if given else seconds, memory_bytes=_memory_bytes(model_bytes + input_bytes)
    )


def own() -> Limits:
    """Limits of files that this package wrote: the memory of the machine, and an hour."""
    return Limits(seconds=OWN_SECONDS, memory_bytes=machine_bytes())


def _memory_bytes(data_bytes: int) -> int:
    return min(BASE_MEMORY_BYTES + MEMORY_PER_BYTE * data_bytes, machine_bytes())


def machine_bytes() -> int:
    """Memory of this machine in bytes; 2^62 where the system does not tell."""
    try:
        return math.prod(map(os.sysconf, ("SC_PHYS_PAGES", "SC_PAGE_SIZE")))
    except (AttributeError, ValueError, OSError):  # no sysconf, or not these names
        return 1 << 62
