"""The link checker finds broken links and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.checks.links import anchors, broken_links


def test_anchors_follow_the_headings() -> None:
    text = "# Two words\n\n## `code`, and more!\n\n# Two words\n\n```\n# not a heading\n```\n## A [link](x.md)\n"
    assert anchors(text) == {"two-words", "code-and-more", "two-words-1", "a-link"}


def test_finds_missing_files_and_headings(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "method.md").write_text("# The loop\n[up](../README.md#top)\n[gone](nowhere.md)\n")
    (tmp_path / "README.md").write_text(
        "# Top\n[a](docs/method.md#the-loop) [b](docs/method.md#the-loops) ![c](c.png)\n"
        "[web](https://example.org/x.md) `[code](no.md)`\n```\n[fenced](no.md)\n```\n[d]: docs/none.md\n"
    )
    assert broken_links(tmp_path) == [
        "README.md: docs/method.md#the-loops: no such heading",
        "README.md: c.png: no such file",
        "README.md: docs/none.md: no such file",
        "docs/method.md: nowhere.md: no such file",
    ]


def test_installed_packages_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "package").mkdir(parents=True)
    (tmp_path / ".venv" / "package" / "README.md").write_text("[gone](nowhere.md)\n")
    assert broken_links(tmp_path) == []
