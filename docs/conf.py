"""How `make docs` turns the pages of this folder into a site that works from the disk."""

import re
from typing import Any

project = "elite_pipeline"
extensions = ["myst_parser"]
exclude_patterns = ["_static"]
nitpicky = True
# Anchors of headings as GitHub makes them.
myst_heading_anchors = 4

html_theme = "furo"
html_title = "elite_pipeline"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
# A browser reads no second page of a site that is opened from the disk.
html_show_search_summary = False


def adapt(app: Any, page: str, source: list[str]) -> None:
    """What the site needs and GitHub would show as text, is added here.

    The sidebar is made of the pages that index.md links, in its order. A linked file of the checkout is copied.
    """
    source[0] = source[0].replace("](../", "](path:../")
    if page == "index":
        pages = dict.fromkeys(re.findall(r"\]\((\w+)\.md\)", source[0]))
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", adapt)
