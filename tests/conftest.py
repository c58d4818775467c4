"""What every test runs under: one thread, so that sums are summed in one order and tests side by side do not fight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Read by OpenMP, OpenBLAS and torch when they are first imported, which is after this file. Numba keeps its threads: a
# race in a parallel kernel should show.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return Path(__file__).resolve().parent.parent
