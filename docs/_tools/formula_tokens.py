"""The words and marks of a formula in AsciiMath, and what each is in TeX.

Names are those of https://asciimath.org; what no layer uses is left out.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

GREEK: Final = (
    "alpha|beta|gamma|Gamma|delta|Delta|epsilon|zeta|eta|theta|Theta|iota|kappa|lambda|Lambda|mu|nu"
    "|xi|Xi|pi|Pi|rho|sigma|Sigma|tau|phi|Phi|chi|psi|Psi|omega|Omega"
)
UPRIGHT: Final = "sum|prod|max|min|log|exp|sin|cos|tanh|sinh|cosh|lim"
LETTERS: Final = {name: f"\\{name} " for name in GREEK.split("|")} | {
    "epsilon": "\\varepsilon ",
    "phi": "\\varphi ",
    "oo": "\\infty ",
    "del": "\\partial ",
}
FUNCTIONS: Final = {name: f"\\{name} " for name in UPRIGHT.split("|")}
UNARY: Final = {
    "hat": "\\hat",
    "bar": "\\bar",
    "tilde": "\\tilde",
    "dot": "\\dot",
    "sqrt": "\\sqrt",
}
ENCLOSED: Final = {
    "abs": ("\\lvert ", "\\rvert "),
    "norm": ("\\lVert ", "\\rVert "),
    "floor": ("\\lfloor ", "\\rfloor "),
    "ceil": ("\\lceil ", "\\rceil "),
}
RELATIONS: Final = {
    "=": "=",
    "<": "<",
    ">": ">",
    "<=": "\\le ",
    ">=": "\\ge ",
    "!=": "\\ne ",
    "->": "\\to ",
    "~~": "\\approx ",
    "in": "\\in ",
}
OPERATORS: Final = {
    "+": "+",
    "-": "-",
    "+-": "\\pm ",
    "*": "\\cdot ",
    "xx": "\\times ",
    "odot": "\\odot ",
    ",": ",",
    ";": ";\\;",
    ":": "\\colon ",
    "...": "\\dots ",
    "!": "!",
}
TEXT: Final = ("if", "otherwise", "else", "for", "where", "and", "or", "with", "at", "of", "over")
OPENING: Final = {"(": "(", "[": "[", "{": "\\{", "{:": "."}
CLOSING: Final = {")": ")", "]": "]", "}": "\\}", ":}": "."}
NUMBER: Final = r"\d+(?:\.\d+)?"
MARK: Final = r"\{:|:\}|\.\.\.|<=|>=|!=|->|~~|\+-|\|\||[-+*/^_=<>()\[\]{}|,;:!']"
HATTED: Final = r"d?[A-Za-z]_hat(?![A-Za-z])"
DIFFERENTIAL: Final = re.compile(rf"d([A-Za-z]|{GREEK})")
_TOKEN: Final = re.compile(
    rf'(?P<space> +)|(?P<quoted>"[^"]*")|(?P<number>{NUMBER})|(?P<word>{HATTED}|[A-Za-z]+)'
    rf"|(?P<mark>{MARK})"
)


class FormulaError(ValueError):
    """A formula that cannot be typeset."""


class Token(NamedTuple):
    """A piece of a formula: its kind, its text, and whether a space stands before it."""

    kind: str  # quoted, number, word or mark
    text: str
    spaced: bool


def tokens(formula: str) -> list[Token]:
    """Cut a formula into tokens.

    Args:
        formula: in AsciiMath.

    Returns:
        The tokens, without the spaces.

    Raises:
        FormulaError: if a character has no meaning in a formula.
    """
    found: list[Token] = []
    position, spaced = 0, False
    while position < len(formula):
        match = _TOKEN.match(formula, position)
        if match is None:
            raise FormulaError(f"{formula[position]!r} has no meaning")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match[0], spaced))
        spaced, position = match.lastgroup == "space", match.end()
    return found


def is_symbol(word: str) -> bool:
    """Tell whether a word is a symbol, and no name of several letters.

    Args:
        word: of letters.

    Returns:
        True for a letter, Greek or not, a function, an accent, a relation or an operator.
    """
    tables = (LETTERS, FUNCTIONS, UNARY, ENCLOSED, RELATIONS, OPERATORS, TEXT)
    return len(word) == 1 or word.endswith("_hat") or any(word in table for table in tables)
