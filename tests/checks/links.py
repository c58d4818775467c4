"""Check that every relative link in the Markdown files leads to an existing file and heading.

    python tests/checks/links.py

Prints one line per broken link and exits with 1 if there is one. Links to the web are not followed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")
INLINE_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
REFERENCE = re.compile(r"^\s*\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def markdown_files(root: Path) -> Iterator[Path]:
    """The project's own Markdown files under ``root``: none in hidden or build folders."""
    for path in sorted(root.rglob("*.md")):
        folders = path.relative_to(root).parts[:-1]
        if not any(part.startswith(".") or part in {"build", "dist", "out"} for part in folders):
            yield path


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a document, as code hosts make them: ``two-words``, then ``two-words-1``."""
    seen: Counter[str] = Counter()
    result = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        result.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return result


def links(text: str) -> list[str]:
    """Targets of all links and images outside code."""
    prose = INLINE_CODE.sub("", FENCE.sub("", text))
    return INLINE_LINK.findall(prose) + REFERENCE.findall(prose)


def broken_links(root: Path) -> list[str]:
    """One line per broken link: the file, the target, and what is missing."""
    problems = []
    for document in markdown_files(root):
        for target in links(document.read_text(encoding="utf-8")):
            if SCHEME.match(target):
                continue
            name, _, anchor = unquote(target).partition("#")
            path = (document.parent / name).resolve() if name else document
            if not path.exists():
                problems.append(f"{document.relative_to(root)}: {target}: no such file")
            elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text(encoding="utf-8")):
                problems.append(f"{document.relative_to(root)}: {target}: no such heading")
    return problems


def main() -> int:
    problems = broken_links(Path(__file__).resolve().parents[2])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
