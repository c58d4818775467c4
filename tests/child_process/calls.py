"""What the tests call in the child."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HELD: list[Any] = []


def echo(value: Any) -> Any:
    """Give back what was sent."""
    return value


def process() -> int:
    """Number of the child."""
    return os.getpid()


def die(number: int) -> None:
    """End by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(60)


def note_and_die(path: str) -> None:
    """Add a line to a file, and end by a signal."""
    with open(path, "a") as file:
        file.write("called\n")
    die(signal.SIGKILL)


def leave() -> None:
    """End with an exit code."""
    os._exit(3)


def wait(seconds: float) -> None:
    """Take some time."""
    time.sleep(seconds)


def announce(path: str) -> None:
    """Tell that the call has begun, and take long."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def fill(count: int, *, kept: bool = False) -> int:
    """Take ``count`` bytes of memory, and return how many there are."""
    block = np.ones(count, np.uint8)
    if kept:
        HELD.append(block)
    return int(block.nbytes)


def set_seed(seed: int) -> None:
    """Set the seed of the nodes that have none, in all later sessions."""
    onnxruntime.set_seed(seed)


def fail(message: str) -> None:
    """Raise an error."""
    raise RuntimeError(message)


def shout() -> None:
    """Print where a terminal would be."""
    for number in (1, 2):
        os.write(number, b"noise\n" * 100)


def lie() -> object:
    """Give something that no message can hold."""
    return object()


def write_to_parent(data: bytes) -> None:
    """Write bytes of one's own to the pipe of answers, as a child that a model has taken over could."""
    for number in range(3, 20):
        try:
            os.write(number, data)
        except OSError:
            continue
        os._exit(0)
