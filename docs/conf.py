"""The site of the documentation, made by Sphinx without a network: python -m sphinx -W docs build/site"""

import os
import re
from pathlib import Path

import typer.main
from docutils import nodes
from typer.cli import get_docs_for_click

import hensa
from hensa.cli import app as command

DOCS = Path(__file__).parent

project = "hensa"
author = "The hensa developers"
version = release = hensa.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 3  # those of GitHub, so that a link is right on both
autodoc_typehints = "none"  # the docstrings state the types
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "hensa"
html_static_path = ["_static"]
html_css_files = ["hensa.css"]
smartquotes = False  # options begin with two hyphens
html_copy_source = html_show_sphinx = False
# The colours of the pages that `hensa report` makes.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#5cb7ea", "color-brand-content": "#5cb7ea"},
}

PAGES = {"README.md": "index", "CHANGELOG.md": "reference/changelog", "CONTRIBUTING.md": "reference/contributing"}
"""Files of the root, whose links point from there, and the documents that they are here."""


def page_of(file: Path) -> str:
    def from_here(link: re.Match[str]) -> str:
        before, path, after = link.groups()
        page = f"/{PAGES[path]}.md" if path in PAGES else "/" + os.path.relpath(file.parent / path, DOCS)
        return f"{before}{page}{after}"

    links = r'(\]\(|src=")(?!https?:)([^)"#]+)((?:#[^)"]*)?[)"])'
    return re.sub(links, from_here, file.read_text(encoding="utf-8"))


def command_reference() -> str:
    group = typer.main.get_command(command)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), name="hensa", title="The command")
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", text)  # their list is beside the page, and not cut off


def fill(app, name: str, content: list[str]) -> None:
    """The text of pages that are made of something else, before what their own file has."""
    for file, page in PAGES.items():
        if name == page:
            content[0] = f"{page_of(DOCS.parent / file)}\n{content[0]}"
    if name == "reference/cli":
        content[0] = command_reference()


def dashes(app, tree: nodes.document) -> None:
    """A dash between a parameter or result and what it is, which Sphinx leaves to smartquotes."""
    for text in list(tree.findall(nodes.Text)):
        if " -- " in text and not isinstance(text.parent, (nodes.literal, nodes.FixedTextElement)):
            text.parent.replace(text, nodes.Text(text.replace(" -- ", " – ")))


def setup(app) -> None:
    app.connect("source-read", fill)
    app.connect("doctree-read", dashes)
