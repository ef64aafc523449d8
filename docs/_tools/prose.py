"""Find the formulas within the sentences of a docstring, which nothing marks there.

A run of letters, numbers, brackets and operators is a formula: `y = x W + b`, `W_(ij)`, `n`. A word
of several letters is part of one only beside `=`, or if it is a name that the file's formulas or
hyperparameters have. What is not sure stays text: `a` mostly is an article.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from asciimath import to_tex
from formula_tokens import (
    CLOSING,
    DIFFERENTIAL,
    ENCLOSED,
    FUNCTIONS,
    HATTED,
    LETTERS,
    MARK,
    NUMBER,
    OPENING,
    OPERATORS,
    RELATIONS,
    UNARY,
    FormulaError,
    is_symbol,
)

_TOKEN: Final = re.compile(
    rf"(?P<code>`[^`]*`)|(?P<word>{HATTED})"
    r"|(?P<plain>\"[^\"]*\"|'(?:s|t)\b|(?<=[A-Za-z]{2})\(s\)|C\+\+|e\.g\.|i\.e\.|[A-Za-z]+\d\w*|\d+[A-Za-z]\w*"
    r"|(?!d?[A-Za-z]_[A-Za-z]{3,}\b)[A-Za-z]+_[A-Za-z]{2,}\w*|[^\W\d_a-zA-Z]+)"
    rf"|(?P<number>{NUMBER})|(?P<name>[A-Za-z]+)|(?P<mark>{MARK})|(?P<other>\S)"
)
_KINDS: Final = {"name": "word"}
_BINARY: Final = (set(RELATIONS) | set(OPERATORS) | {"/"}) - {",", ";", ":", "!", "...", "in"}
_SURE: Final = (_BINARY - {"-"}) | {",", "^"}  # between numbers
_ARTICLES: Final = ("a", "A", "I")
_BEHIND_NO_ARTICLE: Final = {",", ".", ";", ":", ")", "^", "_", "'", "and", "is", "are", *_BINARY}
_BEFORE_NOUNS: Final = ("the", "their", "its", "this", "each", "one", "a")
_ENGLISH: Final = ("do", "de")


class _Token(NamedTuple):
    kind: str  # code, plain, number, word, mark or other
    text: str
    start: int
    end: int


_END: Final = _Token("end", "", -1, -1)


def with_formulas(text: str, names: frozenset[str] = frozenset()) -> str:
    r"""Mark the formulas of a text.

    Args:
        text: sentences, as Markdown.
        names: words of several letters that may be part of a formula.

    Returns:
        The text with each formula as `\(asciimath:...\)`, which `render_maths.py` looks for.
    """
    parts, done = [], 0
    for start, end in _Finder(text, names).formulas():
        formula = " ".join(text[start:end].strip("`").split())
        try:
            to_tex(formula)
        except FormulaError:
            continue
        formula = formula.replace("|", "\\vert ")  # safe within a table
        parts += [text[done:start], f"\\(asciimath:{formula}\\)"]
        done = end
    return "".join([*parts, text[done:]])


class _Finder:
    def __init__(self, text: str, names: frozenset[str]) -> None:
        self.names = names
        self.tokens = [
            _Token(_KINDS.get(kind := str(match.lastgroup), kind), match[0], *match.span())
            for match in _TOKEN.finditer(text)
        ]

    def formulas(self) -> Iterator[tuple[int, int]]:
        """Yield where each formula begins and ends."""
        i = 0
        while i < len(self.tokens):
            token, end = self.tokens[i], self.formula(i)
            if token.kind == "code" and self.is_code_a_formula(token.text[1:-1]):
                yield token.start, token.end
                i += 1
            elif end > i and self.is_sure(i, end) and not self.is_part_of_a_word(i):
                yield token.start, self.tokens[end - 1].end
                i = end
            else:
                i += 1

    def token(self, i: int) -> _Token:
        return self.tokens[i] if 0 <= i < len(self.tokens) else _END

    def is_adjacent(self, i: int, *marks: str) -> bool:
        return self.token(i).text in marks and self.token(i).start == self.tokens[i - 1].end

    def is_code_a_formula(self, code: str) -> bool:
        words = re.findall(r"[A-Za-z]{2,}", code)
        named = all(is_symbol(w) or w in self.names or self.is_sure_name(w) for w in words)
        return named and bool(re.search(r" |\^|_\(", code))

    def is_part_of_a_word(self, i: int) -> bool:
        before = self.token(i - 1)
        is_open = before.kind in ("plain", "word") or before.text in ("^", "_")
        return is_open and before.end == self.tokens[i].start

    def is_sure(self, i: int, end: int) -> bool:
        run = self.tokens[i:end]
        if len(run) == 1:
            is_greek = run[0].text in LETTERS and run[0].text in self.names
            return is_greek or self.is_letter(i) or self.is_sure_name(run[0].text)
        words = [token.text for token in run if token.kind == "word"]
        marks = [token.text for token in run[1:] if token.kind == "mark"]
        if not words:
            return bool(_SURE.intersection(marks))
        return bool(set(marks) - {"-", "+"}) or not any(word in self.names for word in words)

    def is_letter(self, i: int) -> bool:
        text = self.token(i).text
        if self.token(i).kind != "word" or len(text) > 1:
            return False
        within_sentence = self.token(i - 1).text not in ("", ".", ":", ")")
        is_article = text in _ARTICLES and not (text.isupper() and within_sentence)
        return not is_article or self.token(i + 1).text in _BEHIND_NO_ARTICLE

    def is_sure_name(self, text: str) -> bool:
        is_differential = DIFFERENTIAL.fullmatch(text) and text not in _ENGLISH
        return bool(is_differential) or text.endswith("_hat")

    def formula(self, i: int, *, bracketed: bool = False) -> int:
        """Read a formula that begins at token i; give where it ends, and i if there is none."""
        end, is_formula = self.operand(i, free=bracketed), bracketed
        if end == i:
            return i
        while True:
            text = self.token(end).text
            if text in _BINARY or (text == "in" and self.token(end + 1).text in OPENING):
                behind, is_formula = end + 1, True
            elif text == "in" and bracketed:
                behind = end + 1
            else:
                behind = end
                if self.token(end).kind == "number" and not is_formula:
                    return end
            after = self.operand(behind, free=is_formula or self.is_factor(behind))
            if after == behind:
                return end
            end = after

    def is_factor(self, i: int) -> bool:
        """Whether `a` at token i is multiplied, as in `s a e^x` and `s a (x + 1)`."""
        end = self.operand(i + 1, free=False)
        return end > i + 1 and bool({"^", "("} & {token.text for token in self.tokens[i + 1 : end]})

    def operand(self, i: int, *, free: bool) -> int:
        """Read an operand; `free` tells that `a` is no article here."""
        token, end = self.token(i), i
        if token.text in ("-", "+") and self.token(i + 1).start == token.end:
            behind = self.operand(i + 1, free=True)
            return behind if behind > i + 1 else i
        if self.is_noun(i):
            return i
        if token.text in UNARY:
            behind = self.operand(i + 1, free=True)
            return behind if behind > i + 1 else i
        if token.kind == "number" or token.text == "..." or self.is_name(i, free=free):
            end = i + 1
        elif token.text in OPENING:
            end = self.group(i)
        elif token.text in ("|", "||"):
            inside = self.formula(i + 1, bracketed=True)
            end = inside + 1 if self.token(inside).text == token.text else i
        if end == i:
            return i
        return self.behind(end, is_name=token.kind == "word") or i

    def is_noun(self, i: int) -> bool:
        """Whether `sum` at token i is a word of the sentence, as in "their sum z"."""
        before = self.token(i - 1).text.lower()
        return (
            self.token(i).text == "sum"
            and before in _BEFORE_NOUNS
            and not self.is_adjacent(i + 1, "_", "^")
        )

    def is_name(self, i: int, *, free: bool) -> bool:
        token = self.token(i)
        if token.kind != "word":
            return False
        if len(token.text) == 1:
            return free or self.is_letter(i)
        if token.text in (*LETTERS, *FUNCTIONS, *ENCLOSED, *self.names):
            return True
        return self.is_sure_name(token.text) or self.is_beside_operator(i) or self.is_function(i)

    def is_beside_operator(self, i: int) -> bool:
        """Whether a word stands beside `=`, or behind a plus or a minus between spaces."""
        left, sign, word, right = (self.token(j) for j in range(i - 2, i + 2))
        is_apart = left.end < sign.start and sign.end < word.start
        return "=" in (sign.text, right.text) or (sign.text in ("+", "-") and is_apart)

    def is_function(self, i: int) -> bool:
        """Whether a word stands before arguments, as in `softmax(z)`."""
        follows_dot = self.token(i - 1).text == "."
        return not follows_dot and self.is_adjacent(i + 1, "(") and self.group(i + 1) > i + 1

    def behind(self, i: int, *, is_name: bool) -> int:
        """Read the index, the exponent and the arguments of an operand that ends before token i.

        Give 0 if what should be an index or an exponent is something else.
        """
        while True:
            if self.is_adjacent(i, "'"):
                i += 1
            elif self.is_adjacent(i, "_", "^"):
                inner = self.token(i + 1)
                end = self.group(i + 1, is_script=True) if inner.text in OPENING else i + 1
                is_word = is_symbol(inner.text) or inner.text in self.names
                if inner.kind == "number" or (inner.kind == "word" and is_word):
                    end = i + 2
                if end == i + 1:
                    return 0
                i = end
            elif is_name and self.is_adjacent(i, "(", "[") and self.group(i) > i:
                i = self.group(i)
            else:
                return i

    def group(self, i: int, *, is_script: bool = False) -> int:
        """Read formulas in brackets; give i where something else stands in them."""
        end = i + 1
        while True:
            is_index = is_script and self.token(end).kind == "word"
            if is_index and len(self.token(end).text) < 4:
                inside = end + 1
                inside = max(inside, self.formula(end, bracketed=True))
            else:
                inside = self.formula(end, bracketed=True)
            if inside == end:
                return i
            if self.token(inside).text in CLOSING:
                return inside + 1
            if self.token(inside).text not in (",", ";", ":"):
                return i
            end = inside + 1
