"""Settings of all tests. Each computes on one thread, so that sums have one order and tests can run side by side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# OpenMP, OpenBLAS and torch read these when they are first imported, which is after this file. Numba keeps its threads,
# so that a race in a parallel kernel shows.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return Path(__file__).resolve().parent.parent
