"""The documentation as a site: ``make docs`` builds it in out/site, and every warning is an error.

The source folder is the root of the repository, so that pages link to each other as they do there. The README is the
first page, and ``contents.md`` beside this file says what follows it.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^)\s#:]+)\)")

project = "sws-compress"
release = version = installed_version("sws-compress")
project_copyright = "the contributors of sws-compress"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/demo/README.md", "benchmarks/**.md", "sws_compress/demo/data/README.md"]
html_theme = "furo"
html_title = project
html_show_sourcelink = html_copy_source = False
default_role = "code"
myst_heading_anchors = 4

napoleon_google_docstring = False
autodoc_typehints = "none"  # docstrings say them in words
autodoc_member_order = "bysource"


def setup(app: Sphinx) -> None:
    """Register what happens to pages."""
    app.connect("source-read", _adapt)
    app.connect("build-finished", _begin_at_readme)


def _adapt(app: Sphinx, page: str, source: list[str]) -> None:
    """Unlink folders and files without a page, which a site has not, and put the contents below the README."""
    folder = (ROOT / page).parent

    def kept(link: re.Match[str]) -> str:
        target = folder / link[2]
        return link[1] if target.is_dir() or not target.suffix else link[0]

    source[0] = LINK.sub(kept, source[0])
    if page == root_doc:
        source[0] += "\n" + Path(__file__).with_name("contents.md").read_text(encoding="utf-8")


def _begin_at_readme(app: Sphinx, error: Exception | None) -> None:
    """Open the README where a server looks for ``index.html``."""
    text = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html"><title>{project}</title>\n'
    (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")
