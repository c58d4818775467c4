"""Text of others in our lines is on one line, and of bounded length."""

from __future__ import annotations

from sws_compress.messages import first_line, one_line, shown


def test_names_are_quoted_and_escaped():
    assert shown("W") == "'W'"
    assert shown("a\nb\x1b[2J") == r"'a\nb\x1b[2J'"
    assert shown("x" * 80) == repr("x" * 80)
    assert shown("x" * 81) == repr("x" * 80 + "...")


def test_values_are_cut_off():
    assert shown([1, 2]) == "[1, 2]"
    assert len(shown(list(range(1000)))) <= 83


def test_the_first_line_that_says_something():
    assert first_line(ValueError("\n\n  no such thing \n advice\n")) == "no such thing"
    assert first_line(ValueError("  \n")) == "ValueError"
    assert first_line(ValueError("x" * 5000)) == "x" * 240 + "..."


def test_all_lines_as_one():
    assert one_line(" a\n  b\tc ") == "a b c"
    assert one_line("word " * 5000) == ("word " * 48).rstrip() + "..."
