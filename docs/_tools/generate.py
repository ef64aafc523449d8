"""Hooks of MkDocs that make pages and tables of the code, so that no fact stands twice."""

from __future__ import annotations

import logging
import re
import textwrap
from pathlib import Path
from typing import Any, Final

import course_pages
import curves
import flow
import gallery
import jacobians
import notebooks
import proofs
import reference
import source_pages
from mkdocs.structure.files import File, Files
from source_files import MADE, paths, read

import lincoln_fn as lf
from lincoln_fn import vocabulary
from lincoln_fn.grading.courses import course
from lincoln_fn.interop import architectures

DOCS: Final = Path(__file__).parents[1]
CHANGELOG: Final = DOCS.parent / "CHANGELOG.md"
TABLE: Final = re.compile(r"^<!-- table: (\w+) -->$", flags=re.MULTILINE)
EVERY: Final = 25  # pages, after which the build says how far it is
LISTING: Final = '<div class="language-python highlight" data-search-exclude>'
# Browsers break 1e-7 behind its minus. Code that is not inside a line never breaks.
SMALL: Final = re.compile(
    r"<(pre|script|style|svg|textarea)\b.*?</\1>|<(span|div) class=\"arithmatex\">.*?</\2>"
    r"|<[^>]*>|\d[\d.]*e-\d+",
    flags=re.DOTALL,
)
LABELS: Final = '<span class="doc doc-labels">'  # such as "cached property", in a heading
OF_LAYER: Final = re.compile(r"^<!-- (curve|jacobian): (\w+) -->$", flags=re.MULTILINE)
QUOTED: Final = re.compile(r"^<!-- quoted: ([^#\n]+\.md)(?:#(.+))? -->$", flags=re.MULTILINE)
ROWS: Final = re.compile(r"(?:^\|.*\n)+", flags=re.MULTILINE)
LISTED: Final = re.compile(r"^(#{3,4}) (.*)\n\n((?:[- ] .*\n|\n(?=[- ] ))+)", flags=re.MULTILINE)
CHANGES_TAGS: Final = "---\ntags: [what is new, new in this version, release notes]\n---\n\n"
FLOW: Final = "<!-- flow -->"
PICTURE: Final = re.compile(r"^<!-- picture: (\w+) -->$", flags=re.MULTILINE)

log: Final = logging.getLogger("mkdocs.hooks.generate")


def on_config(config: Any) -> None:  # Any: MkDocs' own objects
    """Put layers, losses and notebooks into the navigation, and the version into the foot.

    Args:
        config: the settings, in whose navigation the index of each stands.
    """
    read.cache_clear()  # `mkdocs serve` builds again when a file has changed
    config.copyright = f"lincoln_fn {lf.__version__}, MIT License"
    families = source_pages.by_family().items()
    pages = {
        "layers/index.md": [{key: [f"layers/{name}.md" for name in of]} for key, of in families],
        "losses/index.md": [{"Every loss": [f"{path}.md" for path in paths("losses")]}],
        "notebooks/index.md": [f"notebooks/{name}.md" for name in notebooks.page_names()],
        "reference": [f"reference/{name}.md" for name in reference.pages()],
    }
    sections = [section for door in config.nav for section in next(iter(door.values()))]
    for section in sections:
        for title, index in section.items() if isinstance(section, dict) else ():
            if isinstance(index, str) and index in pages:
                section[title] = [*([index] if index.endswith(".md") else []), *pages[index]]


def on_files(files: Files, *, config: Any) -> Files:
    """Add a page for each layer, each loss, each notebook and each course, and the changelog.

    Args:
        files: those of docs/.
        config: the settings.

    Returns:
        The files, with the new ones.
    """
    log.info("Drawing layers, which takes half a minute")
    for package in MADE:
        for path in paths(package):
            content = source_pages.tags(path) + source_pages.page(path)
            files.append(File.generated(config, f"{path}.md", content=content))
    for name, page in notebooks.pages().items():
        files.append(File.generated(config, f"notebooks/{name}.md", content=page.markdown))
        for file, content in page.files.items():
            files.append(File.generated(config, f"notebooks/{file}", content=content))
    for name in course.names():
        content = course_pages.page(course.read(name))
        files.append(File.generated(config, f"courses/{name}.md", content=content))
    for name, content in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    changes = CHANGELOG.read_text(encoding="utf-8")
    changes = CHANGES_TAGS + LISTED.sub(_fold_changes, changes)
    files.append(File.generated(config, "changelog.md", content=changes))
    return files


def on_nav(nav: Any, **_: Any) -> None:  # Any: MkDocs' own objects
    """Let each door be the index of its section: else its name would stand twice, as one of both.

    Args:
        nav: the navigation.
    """
    for section in nav.items:
        if section.is_section:
            section.children[0].file.name = "index"


def on_pre_page(page: Any, *, files: Files, **_: Any) -> None:  # Any: MkDocs' own objects
    """Say how far the build is, which takes minutes.

    Args:
        page: the page that is next.
        files: those of the site.
    """
    pages = files.documentation_pages()
    number = pages.index(page.file)
    if number % EVERY == 0:
        log.info("Page %d of %d: %s", number, len(pages), page.file.src_uri)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables and pictures that come from the code in their places.

    Args:
        markdown: a page.

    Returns:
        The page, with tables and pictures in the place of the comments that name them.
    """
    markdown = markdown.replace("<!-- version -->", lf.__version__)
    if reference.MARK in markdown:
        return reference.contents(markdown)
    markdown = PICTURE.sub(lambda found: gallery.picture(found[1]), markdown)
    markdown = QUOTED.sub(lambda found: _quoted(*found.groups()), markdown)
    drawn = {"curve": curves.picture, "jacobian": jacobians.picture}
    markdown = OF_LAYER.sub(lambda found: drawn[found[1]](found[2]), markdown)
    tables = {
        "layers": source_pages.layers_table,
        "losses": source_pages.losses_table,
        "vocabulary": _vocabulary,
        "pretrained": _pretrained,
        "proven_layers": lambda: _fold("The table of layers", proofs.layers()),
        "proven_losses": proofs.losses,
        "proven_optimizers": proofs.optimizers,
    }
    return TABLE.sub(lambda found: tables[found[1]](), markdown)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:  # Any: MkDocs' own object
    """Draw the picture of the home page, and mark what the search leaves out and what is one word.

    Args:
        html: a page's content.
        page: the page.

    Returns:
        The content, with the picture or with its listings marked.
    """
    if FLOW in html:
        html = html.replace(FLOW, flow.figure())
    html = html.replace(LABELS, f"{LABELS[:-1]} data-search-exclude>")
    html = SMALL.sub(_unbroken, html)
    if page.file.src_uri.partition("/")[0] not in MADE:
        return html
    return html.replace('<div class="language-python highlight">', LISTING)


def _fold(title: str, text: str) -> str:
    return f'??? note "{title}"\n\n{textwrap.indent(text, "    ")}\n'


def _fold_changes(found: re.Match[str]) -> str:
    """Fold a list of changes: all of them are a page of thirty screens."""
    level, title, changes = found.groups()
    return _fold(title, changes) if level == "####" else f"### {title}\n\n" + _fold("All", changes)


def _unbroken(found: re.Match[str]) -> str:
    is_number = found[0][0] != "<"
    return f'<span class="number">{found[0]}</span>' if is_number else found[0]


def _quoted(page: str, heading: str | None) -> str:
    """Give the first table of a page, or that under a heading: a figure stands in one place."""
    text = (DOCS / page).read_text(encoding="utf-8")
    table = ROWS.search(text, text.index(f"## {heading}\n") if heading else 0)
    if table is None:
        raise ValueError(f"{page} has no table to quote")
    return table[0]


def _vocabulary() -> str:
    others = _fold("optax, torchmetrics and transformers", _names(vocabulary.peers()))
    return f"{_names(vocabulary.table())}\n\n{others}"


def _names(rows: list[vocabulary.Row]) -> str:
    lines = (
        f"| `{row.theirs}` | {f'`lf.{row.ours}`' if row.ours else row.reason} |" for row in rows
    )
    return "\n".join(["| elsewhere | here, or why not |", "| --- | --- |", *lines])


def _pretrained() -> str:
    rows = (
        f"| `{kind}` | {', '.join(f'`{name}`' for name in family.architectures)} |"
        for kind, family in architectures.FAMILIES.items()
    )
    return "\n".join(["| `model_type` | architectures |", "| --- | --- |", *rows])
