"""Run the notebooks of examples/notebooks, and make each a page with its outputs and pictures."""

from __future__ import annotations

import base64
import copy
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

import jupytext
import matplotlib.font_manager  # noqa: F401  # lists the fonts, once: a kernel would warn of it
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

FOLDER: Final = Path(__file__).parents[2] / "examples/notebooks"
# In the order in which they are read.
NAMES: Final = (
    "first_backward_pass",
    "what_a_cache_is",
    "batch_norm_by_hand",
    "lstm_step_by_step",
    "attention_backward",
    "find_the_mistake",
    "mnist_in_twenty_lines",
    "the_first_notebook",
)
# What is too long for one page goes on at a heading, on a second one.
GOES_ON: Final = {"the_first_notebook": "## 4. Cross-entropy"}
LONGEST: Final = 600  # seconds of a cell
LAST_COLUMN: Final = ">seconds</th></tr>"  # of the table that a history shows
NO_DATA: Final = "*This page was built where MNIST was missing, so it shows no results.*"

log: Final = logging.getLogger("mkdocs.hooks.notebooks")


class Page(NamedTuple):
    """A page of the site, and the files that it shows or links to, by name."""

    markdown: str
    files: Mapping[str, bytes]


def has_mnist() -> bool:
    """Return whether MNIST lies where the notebooks read it, so that nothing is downloaded."""
    root = Path(os.environ.get("LINCOLN_FN_DATA", "~/.cache/lincoln_fn")).expanduser()
    return (root / "MNIST/raw/train-images-idx3-ubyte").is_file()


def needs_mnist(name: str) -> bool:
    """Return whether a notebook reads MNIST.

    Args:
        name: of the notebook's file.
    """
    return "import MNIST" in source(name)


def source(name: str) -> str:
    """Read the file of a notebook.

    Args:
        name: of the notebook's file.
    """
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def read(name: str) -> NotebookNode:
    """Read a notebook, without outputs.

    Args:
        name: of the notebook's file.
    """
    return jupytext.reads(source(name), fmt="py:percent")


def run(name: str) -> NotebookNode:
    """Run a notebook from a clean kernel, on one thread, with warnings shown.

    Args:
        name: of the notebook's file.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: if a cell raises an error.
    """
    notebook = read(name)
    with tempfile.TemporaryDirectory() as folder:
        own = {"IPYTHONDIR": folder, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
        client = NotebookClient(
            notebook,
            timeout=LONGEST,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": str(FOLDER)}},
            # By files, because kernels that start at once could take each other's ports.
            config=Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"}),
        )
        client.execute(env={**os.environ, **own})
    return notebook


def page_names() -> list[str]:
    """Return the names of the pages, in the order in which they are read."""
    return [page for name in NAMES for page in (name, *[f"{name}_2"] * (name in GOES_ON))]


def pages() -> dict[str, Page]:
    """Run all notebooks, two at a time, and make their pages."""
    names = list(reversed(NAMES))  # the last one takes longest
    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(names, pool.map(make_page, names, map(source, names)), strict=True))
    for name, heading in GOES_ON.items():
        begin, rest = made[name].markdown.split(f"{heading}\n")
        title = heading.lstrip("# 0123456789.")
        begin += f"It goes on with [{title.lower()}]({name}_2.md).\n"
        made[name] = Page(begin, made[name].files)
        made[f"{name}_2"] = Page(f"# {title}, and what follows\n{rest}", {})
    return made


# `mkdocs serve` runs a notebook again only if it has changed.
@cache
def make_page(name: str, source: str) -> Page:
    """Run a notebook, and make its page; without the data that it needs, a page without results.

    Args:
        name: of the notebook's file.
        source: what the file contains.
    """
    if not needs_mnist(name) or has_mnist():
        log.info("Running the notebook %s", name)
        return page(name, run(name))
    notebook = read(name)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(NO_DATA))
    return page(name, notebook)


def page(name: str, notebook: NotebookNode) -> Page:
    """Write a notebook as a page.

    Args:
        name: of the notebook's file.
        notebook: with its outputs.

    Returns:
        The page, its pictures, and the notebook itself. Two builds give the same bytes.
    """
    notebook = _reproducible(notebook)
    parts: list[str] = []
    files = {f"{name}.ipynb": nbformat.writes(notebook).encode()}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(f"```python\n{cell.source}\n```")
            parts += _shown(name, cell.outputs, files)
    parts.append(f"[This page as a notebook]({name}.ipynb)")
    return Page("\n\n".join(parts) + "\n", files)


def _reproducible(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without what differs from run to run: random ids, and times."""
    notebook = copy.deepcopy(notebook)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        cell.metadata.pop("execution", None)  # when it was run
        for output in cell.get("outputs", []):
            _hide_seconds(output.get("data", {}))
    return notebook


def _hide_seconds(data: dict[str, str]) -> None:
    """Write an ellipsis for the seconds in the records of a history."""
    if "text/plain" in data:
        data["text/plain"] = re.sub(r"(?<=seconds=)[^,)]+", "…", data["text/plain"])
    if LAST_COLUMN in data.get("text/html", ""):
        data["text/html"] = re.sub(r"[^<>]+(?=</td></tr>)", "…", data["text/html"])


# Any: an output as nbformat reads it.
def _shown(name: str, outputs: list[Any], files: dict[str, bytes]) -> Iterator[str]:
    """Write what a cell shows: of several forms of a value, that which says most."""
    for output in outputs:
        if output.output_type == "stream":
            yield f"```text\n{output.text.rstrip()}\n```"
        elif "text/html" in output.data:
            yield f'<div class="output">\n{output.data["text/html"].strip()}\n</div>'
        elif "image/png" in output.data:
            picture = f"{name}-{len(files)}.png"
            files[picture] = base64.b64decode(output.data["image/png"])
            size = output.metadata.get("image/png", {})
            wide = f' width="{size["width"]}"' if size else ""
            title = output.data.get("text/plain", "")
            yield f'<figure class="output"><img src="{picture}"{wide} alt="{_alt(title)}"></figure>'
        else:
            yield f"```text\n{output.data['text/plain'].rstrip()}\n```"


def _alt(title: str) -> str:
    """Take the title of the axes from their repr."""
    found = re.search(r"'center': (['\"])(.*?)\1[,}]", title)
    return escape(found[2]) if found else "picture"
