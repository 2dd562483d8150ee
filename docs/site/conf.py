"""How Sphinx reads the pages that docs/site/build.py has laid out; all of them are GitHub's Markdown."""

import os

from pygments.lexers.special import TextLexer

project = "s3lite"
author = "the s3lite authors"
copyright = "the s3lite authors, Apache 2.0"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
html_theme = "furo"
html_title = "s3lite"
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 4  # links to headings are GitHub's
myst_fence_as_directive = ["mermaid"]
myst_enable_extensions = ["html_image"]
suppress_warnings = ["misc.highlighting_failure"]  # JSON with an ellipsis in it

# The script that draws diagrams: the site's own copy where there is one, so that reading it asks nobody else.
html_static_path = ["_static"]
mermaid_width = "auto"
mermaid_height = "auto; max-height: 42rem"  # else small diagrams fill the page
mermaid_fullscreen = False
mermaid_use_local = os.environ.get("MERMAID_SCRIPT", "")


def setup(app):
    """Languages that Pygments does not know."""
    app.add_lexer("haproxy", TextLexer)
    app.add_lexer("caddy", TextLexer)
