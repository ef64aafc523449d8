"""Write the reference: `reference/index.md` lists all names by group, and each group is a page.

A group is a heading of the second level, with the page's name as its anchor, and what follows it.
"""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name
from types import FunctionType, ModuleType
from typing import Final

from source_pages import references

LIST: Final = Path(__file__).parents[1] / "reference/index.md"
MARK: Final = "<!-- a page a group -->"
GROUP: Final = re.compile(r"^## (.*) \{ #([\w-]+) \}\n", flags=re.MULTILINE)
SHOWN: Final = re.compile(r"^::: ([\w.]+)$", flags=re.MULTILINE)


def _groups(markdown: str) -> list[tuple[str, str, str]]:
    """Divide the list into groups: the page's name, the title, the text."""
    _, *parts = GROUP.split(references(markdown))
    return list(zip(parts[1::3], parts[::3], parts[2::3], strict=True))


def pages() -> dict[str, str]:
    """Write the page of each group, by its name.

    Returns:
        Markdown, in the order of the list.
    """
    return {
        name: f"# {title}\n" + re.sub("^(?=:::)", "\n", text, flags=re.M).replace("\n###", "\n##")
        for name, title, text in _groups(LIST.read_text(encoding="utf-8"))
    }


def contents(markdown: str) -> str:
    """Turn the list into a page of links.

    Args:
        markdown: the list.

    Returns:
        Its first lines, and a table with the names of each group.
    """
    begin = GROUP.split(markdown)[0].replace(MARK, "")
    rows = [
        f"| [{title}]({page}.md) | {', '.join(_links(text))} |"
        for page, title, text in _groups(markdown)
    ]
    return "\n".join([begin, "| group | names |", "| --- | --- |", *rows, ""])


def _links(text: str) -> list[str]:
    return [
        f"[`{path.rpartition('.')[2]}`][{path}]"
        for shown in SHOWN.findall(text)
        for path in _members(shown)
    ]


def _members(path: str) -> list[str]:
    """Give the public names that a module defines; of anything else, itself."""
    thing = resolve_name(path)
    if not isinstance(thing, ModuleType):
        return [path]
    own = [
        name
        for name, member in vars(thing).items()
        if isinstance(member, FunctionType | type)
        and member.__module__ == path
        and not name.startswith("_")
    ]
    return [f"{path}.{name}" for name in own]
