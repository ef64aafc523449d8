"""Hooks of MkDocs that make pages and tables of the code, so that no fact stands twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import course_pages
import curves
import flow
import gallery
import jacobians
import notebooks
import proofs
import source_pages
from mkdocs.structure.files import File, Files
from source_files import MADE, paths, read

import lincoln_fn as lf
from lincoln_fn import vocabulary
from lincoln_fn.grading.courses import course
from lincoln_fn.interop import architectures

CHANGELOG: Final = Path(__file__).parents[2] / "CHANGELOG.md"
TABLE: Final = re.compile(r"^<!-- table: (\w+) -->$", flags=re.MULTILINE)
LISTING: Final = '<div class="language-python highlight" data-search-exclude>'
LABELS: Final = '<span class="doc doc-labels">'  # such as "cached property", in a heading
OF_LAYER: Final = re.compile(r"^<!-- (curve|jacobian): (\w+) -->$", flags=re.MULTILINE)
FLOW: Final = "<!-- flow -->"
PICTURE: Final = re.compile(r"^<!-- picture: (\w+) -->$", flags=re.MULTILINE)


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
        "losses/index.md": [f"{path}.md" for path in paths("losses")],
        "notebooks/index.md": [f"notebooks/{name}.md" for name in notebooks.NAMES],
    }
    for section in config.nav:
        for title, index in section.items():
            if isinstance(index, str) and index in pages:
                section[title] = [index, *pages[index]]


def on_files(files: Files, *, config: Any) -> Files:
    """Add a page for each layer, each loss, each notebook and each course, and the changelog.

    Args:
        files: those of docs/.
        config: the settings.

    Returns:
        The files, with the new ones.
    """
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
    changes = CHANGELOG.read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changes))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables and pictures that come from the code in their places.

    Args:
        markdown: a page.

    Returns:
        The page, with tables and pictures in the place of the comments that name them.
    """
    markdown = markdown.replace("<!-- version -->", lf.__version__)
    markdown = source_pages.references(markdown)
    markdown = PICTURE.sub(lambda found: gallery.picture(found[1]), markdown)
    drawn = {"curve": curves.picture, "jacobian": jacobians.picture}
    markdown = OF_LAYER.sub(lambda found: drawn[found[1]](found[2]), markdown)
    tables = {
        "layers": source_pages.layers_table,
        "losses": source_pages.losses_table,
        "vocabulary": _vocabulary,
        "pretrained": _pretrained,
        "proven_layers": proofs.layers,
        "proven_losses": proofs.losses,
        "proven_optimizers": proofs.optimizers,
    }
    return TABLE.sub(lambda found: tables[found[1]](), markdown)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:  # Any: MkDocs' own object
    """Draw the picture of the home page, and leave out of the search's index what is no text.

    Args:
        html: a page's content.
        page: the page.

    Returns:
        The content, with the picture or with its listings marked.
    """
    if FLOW in html:
        html = html.replace(FLOW, flow.figure())
    html = html.replace(LABELS, f"{LABELS[:-1]} data-search-exclude>")
    if page.file.src_uri.partition("/")[0] not in MADE:
        return html
    return html.replace('<div class="language-python highlight">', LISTING)


def _vocabulary() -> str:
    rows = (
        f"| `{row.theirs}` | {f'`lf.{row.ours}`' if row.ours else row.reason} |"
        for row in vocabulary.table() + vocabulary.peers()
    )
    return "\n".join(["| elsewhere | here, or why not |", "| --- | --- |", *rows])


def _pretrained() -> str:
    rows = (
        f"| `{kind}` | {', '.join(f'`{name}`' for name in family.architectures)} |"
        for kind, family in architectures.FAMILIES.items()
    )
    return "\n".join(["| `model_type` | architectures |", "| --- | --- |", *rows])
