"""Translate a formula of a docstring from AsciiMath to TeX, which KaTeX typesets.

The formulas are written as https://asciimath.org has it, with these differences, so that a formula
reads the same in code and on a page:

- a name of several letters, such as `rstd`, is set upright; `dx` is d and x;
- `f(x)`, without a space, is a function of x; `g (x)`, with one, is a product;
- `x / y` is a fraction of the operands beside the line; in an exponent or an index it stays a line;
- what AsciiMath would guess at is an error: `e^-x`, `x_ij`, a bracket that is not closed.

AsciiMath's own translators guess, take `g` for the name of a function, and `o+` for a symbol.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import formula_tokens as known
from formula_tokens import FormulaError, Token, is_symbol, tokens

_TALL: Final = re.compile(r"\\(frac|sum|prod|begin|left)")
_END: Final = Token("end", "", spaced=True)


class _Item(NamedTuple):
    """TeX of an operand, or of what stands between two; `bare` is it without its brackets."""

    tex: str
    kind: str  # operand, upright, relation, operator or text
    bare: str = ""


def to_tex(formula: str, *, inline: bool = False, aligned: bool = False) -> str:
    """Translate a formula.

    Args:
        formula: in AsciiMath.
        inline: whether it stands within a sentence, where a fraction is written with a slash.
        aligned: whether to put TeX's `&` before the first relation, for lines below each other.

    Returns:
        TeX.

    Raises:
        FormulaError: if the formula cannot be typeset.
    """
    try:
        parser = _Parser(tokens(formula))
        tex = parser.expression(aligned=aligned, slash=inline)
        if parser.peek() is not _END:
            raise FormulaError(f"{parser.peek().text!r} closes nothing")
    except FormulaError as error:
        raise FormulaError(f"{error}, in the formula {formula!r}") from None
    return tex


class _Parser:
    """A parser by recursive descent: each method reads what it is named after."""

    def __init__(self, read: list[Token]) -> None:
        self.read, self.at = read, 0

    def peek(self) -> Token:
        return self.read[self.at] if self.at < len(self.read) else _END

    def next(self) -> Token:
        if self.at == len(self.read):
            raise FormulaError("something is missing at the end")
        self.at += 1
        return self.read[self.at - 1]

    def is_adjacent(self, *marks: str) -> bool:
        return self.peek().text in marks and not self.peek().spaced

    def expression(self, *ends: str, aligned: bool = False, slash: bool = False) -> str:
        """Read up to a closing bracket, one of `ends` or the end; `slash` tells how to divide."""
        items: list[_Item] = []
        while self.peek() is not _END and self.peek().text not in (*ends, *known.CLOSING):
            if self.peek().text == "/" and not slash:
                items.append(self.fraction(items))
            else:
                items.append(self.item(slash=slash))
        tex, before, is_first = "", _Item("", "operator"), aligned
        for item in items:
            if is_first and item.kind == "relation":
                tex, is_first = tex + "&", False
            tex += _space_between(before, item) + item.tex
            before = item
        return tex

    def fraction(self, items: list[_Item]) -> _Item:
        self.next()
        if not items or items[-1].kind not in ("operand", "upright"):
            raise FormulaError("nothing stands before '/'")
        above, below = items.pop(), self.item()
        if below.kind not in ("operand", "upright"):
            raise FormulaError("no operand stands behind '/'")
        return _Item(f"\\frac{{{above.bare or above.tex}}}{{{below.bare or below.tex}}}", "operand")

    def item(self, *, slash: bool = False) -> _Item:
        """Read an operand with its index, exponent and arguments, or what stands between two."""
        is_name = self.peek().kind in ("word", "quoted")
        item = self.simple(slash=slash)
        while item.kind in ("operand", "upright"):
            if self.is_adjacent("'"):
                tex = self.next().text
            elif self.is_adjacent("_", "^"):
                mark = self.next().text
                tex = f"{mark}{{{self.index() if mark == '_' else self.exponent()}}}"
            elif is_name and self.is_adjacent("(", "["):
                tex = f"\\mathopen{{}}{self.simple(slash=slash).tex}"
            else:
                break
            item = _Item(item.tex + tex, item.kind)
        return item

    def exponent(self) -> str:
        if self.is_adjacent("T"):
            self.next()
            return "\\top "
        return self.script()

    def index(self) -> str:
        """Read an index: `(kij)` is k, i and j, and `key` a word."""
        if self.peek().kind == "word" and len(self.peek().text) > 2:
            return self.word(self.next().text, slash=True).tex
        if self.peek().text in known.OPENING:
            depth, at = 0, self.at
            while at < len(self.read):
                token = self.read[at]
                depth += (token.text in known.OPENING) - (token.text in known.CLOSING)
                if depth == 0:
                    break
                if token.kind == "word" and len(token.text) < 4 and not is_symbol(token.text):
                    self.read[at : at + 1] = [token._replace(text=text) for text in token.text]
                at += 1
        return self.script().replace("\\,", "")

    def script(self) -> str:
        token = self.peek()
        if token.text in known.OPENING:
            item = self.simple(slash=True)
            return item.bare or item.tex
        stands_alone = token.kind == "number" or (token.kind == "word" and is_symbol(token.text))
        if not stands_alone or token.text in (*known.RELATIONS, *known.OPERATORS, *known.TEXT):
            raise FormulaError(f"{token.text!r} needs brackets, as in x_(ij) and e^(-x)")
        return self.simple(slash=True).tex

    def simple(self, *, slash: bool = False) -> _Item:
        token = self.next()
        if token.kind == "number":
            return _Item(token.text, "operand")
        if token.kind == "quoted":
            return _Item(f"\\text{{{token.text[1:-1]}}}", "upright")
        if token.text in known.RELATIONS:
            return _Item(known.RELATIONS[token.text], "relation")
        if token.text in known.OPERATORS:
            return _Item(known.OPERATORS[token.text], "operator")
        if token.kind == "word":
            return self.word(token.text, slash=slash)
        if token.text in known.OPENING:
            return self.group(token.text, slash=slash)
        if token.text in ("|", "||"):
            inside = self.expression(token.text, slash=slash)
            if self.next().text != token.text:
                raise FormulaError(f"{token.text!r} is not closed")
            return _enclosed(*known.ENCLOSED["abs" if token.text == "|" else "norm"], inside)
        if token.text == "/" and slash:
            return _Item("/", "operator")
        raise FormulaError(f"{token.text!r} stands behind nothing")

    def word(self, word: str, *, slash: bool) -> _Item:
        if word in known.TEXT:
            return _Item(f"\\text{{ {word} }}", "text")
        if word in known.LETTERS or len(word) == 1:
            return _Item(known.LETTERS.get(word, word), "operand")
        if word in known.FUNCTIONS:
            return _Item(known.FUNCTIONS[word], "upright")
        if word in known.ENCLOSED and self.is_adjacent("("):
            self.next()
            inside = self.expression(slash=slash)
            self.close()
            return _enclosed(*known.ENCLOSED[word], inside)
        if word in known.UNARY:
            under = self.simple(slash=slash)
            inside = under.bare or under.tex
            over = "\\widehat" if word == "hat" and len(inside) > 1 else known.UNARY[word]
            return _Item(f"{over}{{{inside}}}", "operand")
        if word.endswith("_hat"):
            return _Item(f"{word[:-5]}\\hat{{{word[-5]}}}", "operand")
        if known.DIFFERENTIAL.fullmatch(word):
            return _Item(f"d{known.LETTERS.get(word[1:], word[1:])}", "operand")
        return _Item(f"\\operatorname{{{word}}}", "upright")

    def group(self, opening: str, *, slash: bool) -> _Item:
        start = self.at
        if opening == "{" and (rows := self.cases()):
            return _Item(f"\\begin{{cases}} {rows} \\end{{cases}}", "operand")
        self.at = start
        inside = self.expression(slash=slash)
        closing = self.close()
        if opening == "{:" and closing == ":}":
            return _Item(inside, "operand")
        return _enclosed(known.OPENING[opening], known.CLOSING[closing], inside)

    def cases(self) -> str:
        """Read the inside of `{(x, if x > 0), (0, otherwise):}`; nothing if it is no such thing."""
        rows: list[str] = []
        while self.peek().text == "(":
            self.next()
            value = self.expression(",")
            if self.peek().text != ",":
                return ""
            self.next()
            condition = self.expression()
            self.close()
            rows.append(f"{value} & {condition.replace('{ ', '{', 1)}")
            if self.peek().text == ":}":
                self.next()
                return " \\\\ ".join(rows)
            if self.peek().text == ",":
                self.next()
        return ""

    def close(self) -> str:
        if self.peek().text not in known.CLOSING:
            raise FormulaError("a bracket is not closed")
        return self.next().text


def _space_between(left: _Item, right: _Item) -> str:
    """Set the factors of a product a little apart; TeX does so around upright names."""
    if left.kind == right.kind == "operand":
        is_one = left.tex.isdigit() or (left.tex == "d" and right.tex.startswith("\\hat"))
        return "" if is_one else "\\,"
    ends = left.tex[-1:] in (")", "]") or right.tex[:1] in ("(", "[")
    return "\\," if left.kind == "upright" and right.kind == "operand" and ends else ""


def _enclosed(left: str, right: str, inside: str) -> _Item:
    if _TALL.search(inside):
        left, right = f"\\left{left}", f"\\right{right}"
    elif left == right == ".":
        left = right = ""
    return _Item(f"{left}{inside}{right}", "operand", inside)
