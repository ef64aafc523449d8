r"""Render formulas while the site is built, by KaTeX: pages need no script and no network.

MkDocs calls `on_page_content`. A formula is TeX, from a guide, or AsciiMath, from a docstring: that
begins with `asciimath:`. One that cannot be typeset is a warning, which `strict` in mkdocs.yml
makes an error.
"""

import html
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

from asciimath import to_tex
from formula_tokens import FormulaError
from prose import with_formulas
from py_mini_racer import MiniRacer
from source_files import REMARK, Paragraph

MARK = "asciimath:"
KATEX = Path(__file__).with_name("katex.min.js")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
TALL_LINE = re.compile(r"(\\(?:frac|sum|begin).*\\\\)\n")  # KaTeX sets the next one close below it
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
    html_of_page, problems = render(content)
    for problem in problems:
        log.warning("%s: %s", page.file.src_uri, problem)
    return html_of_page


def render(content: str) -> tuple[str, list[str]]:
    """Render the formulas of a page.

    Args:
        content: the page's HTML.

    Returns:
        The HTML with its formulas rendered, and what is wrong with those that cannot be.
    """
    problems: list[str] = []
    if FORMULA.search(content):
        with MiniRacer() as engine:
            engine.eval(KATEX.read_text(encoding="utf-8"))
            engine.eval(RENDER)
            content = FORMULA.sub(partial(_rendered, engine, problems), content)
    if MARK in content:  # Markdown has taken a formula for something else
        problems.append(f"not recognised: {content[content.index(MARK) :][:60]}")
    return content, problems


def _rendered(engine: MiniRacer, problems: list[str], found: re.Match[str]) -> str:
    tag, formula = found[1], html.unescape(found[2])
    try:
        formula = TALL_LINE.sub(r"\1[0.9em]\n", tex(formula))
        answer = engine.call("render", formula, tag == "div")
    except FormulaError as error:
        answer = {"problem": str(error)}
    if "problem" in answer:
        problems.append(answer["problem"])
        return found[0].replace(MARK, "")
    # The search index has a formula in a line once, and not what stands on its own.
    excluded = " data-search-exclude" if tag == "div" else ""
    once = answer["html"].replace(
        'class="katex-mathml"', 'class="katex-mathml" data-search-exclude'
    )
    return f'<{tag} class="formula"{excluded}>{once}</{tag}>'


def tex(formula: str) -> str:
    """Translate what a page marks as AsciiMath, and leave TeX as it is.

    Args:
        formula: as it stands in the page; lines, with remarks behind them, if it is a block.

    Returns:
        TeX.

    Raises:
        FormulaError: if it cannot be typeset.
    """
    if not formula.startswith(MARK):
        return formula
    formula = formula.removeprefix(MARK).replace("\\vert ", "|")
    if "\n" not in formula:
        return to_tex(formula, inline=True)
    block = Paragraph(is_formulas=True, lines=tuple(formula.strip("\n").split("\n")))
    rows = " \\\\\n".join(_row(line, block.names) for line in block.lines)
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def _row(line: str, names: frozenset[str]) -> str:
    formula, *remarks = REMARK.split(line)
    row = to_tex(formula, aligned=True)
    row = row if "&" in row else f"&{row}"
    return "\\quad ".join([row, *(_remark(remark, names) for remark in remarks)])


def _remark(remark: str, names: frozenset[str]) -> str:
    parts = re.split(r"(\\\(asciimath:.*?\\\)|`.*?`)", with_formulas(remark, names))
    return "".join(_part_of_remark(part) for part in parts if part)


def _part_of_remark(part: str) -> str:
    if part.startswith("\\("):
        return tex(part[2:-2])
    escaped = re.sub(r"([#$%&_{}])", r"\\\1", part.strip("`"))
    return f"\\{'texttt' if part.startswith('`') else 'text'}{{{escaped}}}"
