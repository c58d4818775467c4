"""Slices of threads cover an array once, and errors in a thread come back."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress import threads


@pytest.mark.parametrize("length", [0, 1, 199, 200, 1001, 4096])
def test_shares_cover_every_element_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 3)
    seen = np.zeros(length, np.int64)
    sizes = []

    def touch(part: slice) -> None:
        seen[part] += 1
        sizes.append(part.stop - part.start)

    threads.over_shares(touch, length, least=100)
    assert (seen == 1).all()
    assert len(sizes) == (1 if length < 200 else min(length // 100, 3))
    assert max(sizes) - min(sizes) <= 1


def test_error_of_a_share_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)

    def fail(part: slice) -> None:
        if part.start:
            raise ValueError("second")

    with pytest.raises(ValueError, match="second"):
        threads.over_shares(fail, 1000, least=100)
