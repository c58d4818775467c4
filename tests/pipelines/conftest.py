"""Fixtures of the pipelines' tests."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable

import pytest


@pytest.fixture
def disk_fails_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function after whose call the disk fails when a file is flushed to it for the n-th time, counted from 0."""

    def set_up(fails_at: int) -> None:
        fsync, count = os.fsync, itertools.count()

        def failing(handle: int) -> None:
            if next(count) == fails_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", failing)

    return set_up
