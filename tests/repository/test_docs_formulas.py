"""The formulas of docstrings are found, translated to TeX and typeset; activations are drawn."""

import re
from pathlib import Path

import pytest
import source_pages
from asciimath import to_tex
from curves import picture
from formula_tokens import FormulaError
from prose import with_formulas
from source_files import MADE, REMARK, SOURCE, paths, read

PAGES = [path for package in MADE for path in paths(package)]
FILES = [
    read(str(path.relative_to(SOURCE).with_suffix("")))
    for package in MADE
    for path in sorted((SOURCE / package).rglob("*.py"))
    if path.stem not in ("__init__", "loss")
]
BLOCKS = [part for file in FILES for part in file.docstring if part.is_formulas]
FORMULAS = [REMARK.split(line)[0] for block in BLOCKS for line in block.lines]


def test_every_formula_of_a_docstring_can_be_translated():
    assert len(FORMULAS) > 600
    assert all(to_tex(formula, aligned=True) for formula in FORMULAS)  # an error has the formula


@pytest.mark.full
def test_katex_takes_all_that_the_docstrings_hold():
    pytest.importorskip("py_mini_racer", reason="mini-racer runs KaTeX")
    markdown = pytest.importorskip("markdown", reason="the pages are Markdown")
    pytest.importorskip("pymdownx", reason="arithmatex finds the formulas of a page")
    import render_maths

    options = {"pymdownx.arithmatex": {"generic": True}}
    convert = markdown.Markdown(extensions=[*options, "tables"], extension_configs=options).convert
    texts = [source_pages.markdown(file.docstring, file.names) for file in FILES]
    tables = [source_pages.layers_table(), source_pages.losses_table()]
    page, problems = render_maths.render(convert("\n\n".join([*tables, *texts])))
    assert not problems
    assert page.count('<div class="formula"') == len(BLOCKS)
    assert page.count('<span class="formula"') > 10 * len(PAGES)


@pytest.mark.full
def test_the_reference_is_read_without_a_warning_and_its_code_stays_code(logged):
    griffe = pytest.importorskip("griffe", reason="Griffe reads the source for the reference")
    extensions = griffe.load_extensions(str(Path(source_pages.__file__).with_name("docstrings.py")))
    unread = [griffe.load("lincoln_fn", search_paths=[SOURCE.parent], extensions=extensions)]
    said = []
    while unread:
        thing = unread.pop()
        if thing.docstring is not None:
            thing.docstring.parse("google", returns_multiple_items=False, returns_named_value=False)
            said.append(thing.docstring.value)
        unread += [member for member in thing.members.values() if not member.is_alias]
    assert len(said) > 1000
    assert not logged
    assert not re.findall(r"^    .*asciimath:.*", "\n".join(said), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("formula", "tex"),
    [
        ("e^(-x) / (1 + e^(-x))", r"\frac{e^{-x}}{1+e^{-x}}"),
        ("(dy)/(dx)", r"\frac{dy}{dx}"),
        ("a x / b", r"a\,\frac{x}{b}"),
        ("e^(x / a)", "e^{x/a}"),
        ("rstd (g - mean(g))", r"\operatorname{rstd}\,(g-\operatorname{mean}\mathopen{}(g))"),
        ("min(max(x, 0), 6) / 6", r"\frac{\min \mathopen{}(\max \mathopen{}(x,0),6)}{6}"),
        ("d hat x_j = dx_hat_j", r"d\hat{x}_{j}=d\hat{x}_{j}"),
        ("W_(ij) W_query^T", r"W_{ij}\,W_{\operatorname{query}}^{\top }"),
        ("sum_(j != i) x_j", r"\sum _{j\ne i}x_{j}"),
        (
            "{(x, if x > 0), (0, otherwise):}",
            r"\begin{cases} x & \text{if }x>0 \\ 0 & \text{otherwise } \end{cases}",
        ),
        (
            "|x| <= floor((o + 1/2) / n)",
            r"\lvert x\rvert \le \left\lfloor \frac{o+\frac{1}{2}}{n}\right\rfloor ",
        ),
        ('[0, 1) "in text"', r"[0,1)\text{in text}"),
    ],
)
def test_a_formula_is_translated(formula, tex):
    assert to_tex(formula) == tex


def test_lines_below_each_other_are_aligned_at_the_first_relation():
    assert to_tex("y[i = j] <= x = 0", aligned=True) == r"y\mathopen{}[i=j]&\le x=0"


@pytest.mark.parametrize(
    ("formula", "problem"),
    [
        ("e^-x", r"'-' needs brackets, as in x_\(ij\) and e\^\(-x\), in the formula 'e\^-x'"),
        ("x_ij", "'ij' needs brackets"),
        ("(a + b", "a bracket is not closed"),
        ("a)", r"'\)' closes nothing"),
        ("|x", "something is missing at the end"),
        ("a /", "something is missing at the end"),
        ("/ a", "nothing stands before '/'"),
        ("a / = b", "no operand stands behind '/'"),
        ("^2", r"'\^' stands behind nothing"),
        ("y = x.", r"'\.' has no meaning"),
    ],
)
def test_what_cannot_be_typeset_is_an_error(formula, problem):
    with pytest.raises(FormulaError, match=problem):
        to_tex(formula)


@pytest.mark.parametrize(
    "text",
    [
        "With «y = 1 / (1 + e^(-x))», element by element.",
        "«x»'s shape, and «dx» mirrors it; «g» is «dL/dy».",
        "A small step of «x», a row, and «a» and «b» are such that «s a e^x» is one.",
        "«x_c[t]» meets «W_(o,c)[k]» in each «y_o[p]» with «s p + d k = t».",
        "Code as `y = x @ W` stays, the mask of layer(s) too; «hat x_j» and «x_hat» do not.",
        "«y = softmax(z)» with «z = -x» in (batch, length), NIPS 2017 (2013), float32's.",
        "«scale = 1 / (1 - p)», where scale stands in a formula; mean 0 does not, «bias = 2» does.",
        "«d = prediction - target» is well-known, and input/output or pre- and post-norm are not.",
        "Their sum «z» has four gates, the «sum_j z_j» is «y», and the sum over «n» is one.",
        "of shape «(N, C)», an n_in or W_ih, «n»-th, key.fold_in(0).",
    ],
)
def test_the_formulas_of_a_sentence_are_found(text):
    marked = with_formulas(re.sub("[«»]", "", text), frozenset({"scale"}))
    assert re.sub(r"\\\(asciimath:(.*?)\\\)", r"«\1»", marked) == text


def test_an_activation_is_drawn_and_a_jump_is_left_open():
    assert picture("tanh").count("<path") == 4
    values = re.search(r'class="value" d="([^"]*)"', picture("hardshrink"))
    assert values[1].count("M") == 3


def test_a_random_activation_is_drawn_as_points():
    values = re.search(r'class="value points" d="([^"]*)"', picture("rrelu"))
    points = [run.split("L") for run in values[1].replace(" M", "M").split("M")[1:]]
    assert len(points) > 200
    assert all(begin == end for begin, end in points)


def test_an_activation_without_defaults_is_drawn_with_the_arguments_of_a_table():
    assert 'aria-label="threshold(1.0, 0.25): ' in picture("threshold")


@pytest.mark.parametrize("name", ["softmax", "glu", "dense"])
def test_what_is_no_function_of_one_number_is_not_drawn(name):
    assert picture(name) == ""
