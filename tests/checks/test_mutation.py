"""Mutants of texts are told from those of code."""

from __future__ import annotations

import pytest

from tests.checks.mutation import changes_text_only


@pytest.mark.parametrize(
    ("removed", "added", "text"),
    [
        ('    return f"at {place}"', '    return f"XXat {place}XX"', True),
        ('    name = "zero"', '    name = "ZERO"', True),
        ('        raise ModelError("must be finite")', "        raise ModelError(None)", True),
        ('        raise ArgumentError(f"got {n}")', "        raise ArgumentError()", True),
        ('            f"names must be {known}"', "            None", True),
        ("            weights,", "            None,", False),
        ("    return a + b", "    return a - b", False),
        ("    raise_ = error(1)", "    raise_ = error(None)", False),
    ],
)
def test_text_only(removed: str, added: str, text: bool) -> None:
    assert changes_text_only(f"--- a\n+++ b\n@@ -1,2 +1,2 @@\n def f():\n-{removed}\n+{added}\n") is text
