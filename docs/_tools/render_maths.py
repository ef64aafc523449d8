"""Render formulas while the site is built, by KaTeX: pages need no script and no network.

MkDocs calls `on_page_content`. A formula that KaTeX does not understand is a warning, which
`mkdocs build --strict` makes an error.
"""

import html
import logging
import re
from pathlib import Path
from typing import Any

from py_mini_racer import MiniRacer

KATEX = Path(__file__).with_name("katex.min.js")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
TALL_LINE = re.compile(r"(\\(?:frac|sum).*\\\\)\n")  # KaTeX sets the next one close below it
RENDER = """
function render(formula, displayMode) {
  try { return {html: katex.renderToString(formula, {displayMode, strict: "error"})} }
  catch (error) { return {problem: error.message} }
}
"""

log = logging.getLogger("mkdocs.hooks.render_maths")


def on_page_content(content: str, *, page: Any, **_: Any) -> str:  # Any: MkDocs' own objects
    """Put rendered formulas in the place of those that arithmatex has found in a page.

    Args:
        content: the page's HTML.
        page: the page, whose path a warning names.

    Returns:
        The HTML with its formulas rendered.
    """
    if not FORMULA.search(content):
        return content
    with MiniRacer() as engine:
        engine.eval(KATEX.read_text(encoding="utf-8"))
        engine.eval(RENDER)

        def rendered(found: re.Match[str]) -> str:
            tag, formula = found[1], TALL_LINE.sub(r"\1[0.9em]\n", html.unescape(found[2]))
            answer = engine.call("render", formula, tag == "div")
            if "problem" in answer:
                log.warning("%s: %s", page.file.src_uri, answer["problem"])
                return found[0]
            # Display formulas would be a jumble of letters in the search index.
            excluded = " data-search-exclude" if tag == "div" else ""
            return f'<{tag} class="formula"{excluded}>{answer["html"]}</{tag}>'

        return FORMULA.sub(rendered, content)
