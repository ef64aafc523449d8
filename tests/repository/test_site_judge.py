"""The judge of numpy's gradients, and the page that runs it in Chromium, opened from the disk.

By hand, for a site that is built as test_site_search.py says:

    LINCOLN_FN_SITE=site python -m pytest tests/repository/test_site_judge.py -s
"""

import ast
import inspect
import json
import time
from importlib import import_module

import numpy as np
import pytest
from helpers.submissions.loops_dense import AFFINE
from helpers.submissions.loops_images import INNER, conv
from helpers.submissions.loops_norms import BATCH_NORM
from helpers.submissions.loops_sequences import RNN, SOFTMAX
from helpers.submissions.strange import LAYERS
from numpy_judge import judge

JUDGE = "document.querySelector('figure.judge').judge"


CODES = {
    code.family: code
    for code in (*(code for code, _ in LAYERS), AFFINE, BATCH_NORM, conv(), RNN, SOFTMAX)
}
# Code, what is changed in its text, what is said of it, and of which line; 0 where none is told.
WRONG = [
    ("affine", {"return dx": "return -dx"}, "dx has the wrong sign: it is -1 times", 0),
    ("gated norm", {"(dz * x).sum(0)": "(dz * x).mean(0)"},
        "line 11: da is 1/5 times the gradient of a", 11),
    ("wave", {"-du * np.sin": "du * np.sin"},
        "line 10: da has the wrong sign: it is -1 times the gradient of a", 10),
    ("highway", {"(1 + z**2) ** 2": "(1 + z**2)"}, "line 10: dz is not the gradient of z", 10),
    ("mixture", {"dx + dh @ v.T": "dx"}, "line 14: dx is not the gradient of x", 14),
    ("batch norm", {" - variance": ""}, "line 20: dx is not the gradient of x", 20),
    ("convolution", {INNER: ": x.shape[2], : x.shape[3]"}, "dx is not the gradient", 20),
    ("rnn", {"dh = d @ wh.T": "dh = 0 * d @ wh.T"}, "dwx is not the gradient", 0),
    ("cross-entropy", {"dx / len(x)": "dx"}, "dx is 6 times the gradient", 0),
]  # fmt: skip
JUDGED = [*((family, {}, "", 0) for family in CODES), *WRONG]


def asked(family, changes):
    """Give the text of some code, and its arguments, as they are written into the page."""
    code = CODES[family]
    shapes = (tuple(array.shape) for array in code.arrays)
    options = {name: np.asarray(value).tolist() for name, value in code.options.items()}
    given = dict(zip(inspect.signature(code.forward).parameters, shapes, strict=False)) | options
    return code.text(changes), ", ".join(f"{name}={value}" for name, value in given.items())


def check(said, line, found):
    if not said:
        assert found["verdict"] == "proven", found
    else:
        assert found["verdict"] == "refuted", found
        assert any(said in sentence for sentence in found["says"]), found
        assert found["line"] == line, found


@pytest.mark.parametrize(("family", "changes", "said", "line"), JUDGED)
def test_a_gradient_is_judged(family, changes, said, line):
    check(said, line, judge(*asked(family, changes)))


def test_a_second_mistake_is_found_when_the_first_is_mended():
    both = {"(dz * x).sum(0)": "(dz * x).mean(0)", "db = g.sum(0)": "db = 2 * g.sum(0)"}
    found = judge(*asked("gated norm", both))
    assert (found["line"], found["says"][0]) == (8, "line 8: db is 2 times the gradient of b")
    assert found["says"][1:] == ["da is 1/5 times the gradient"]


AHEAD = "def forward(x):\n    return x * x, x\n"


@pytest.mark.parametrize(("source", "given", "verdict", "said", "line"), [
    ("def forward(x:\n", "x=(3,)", "not run", "line 1: ", 1),
    ("y = 1\n", "x=(3,)", "not run", "expected a function", 0),
    (AHEAD + "def backward(g, x):\n    return g / None\n", "x=(3,)", "not run",
        "line 4 raises TypeError", 4),
    (AHEAD + "def backward(g, x):\n    return g, x\n", "x=(3,)", "not run", "expected 1 gradients",
        0),
    (AHEAD + "def backward(g, x):\n    return g.sum()\n", "x=(3,)", "refuted",
        "dx has the shape (); x has the shape (3,)", 0),
    ("def loss(w, x):\n    return (x @ w).sum(), x.sum(0)\n", "w=(3,), x=(4, 3)", "proven",
        "dw: the derivative of loss", 0),
    (AHEAD + "def backward(g, x):\n    return {'dx': 2 * g * x}\n", "x=(3,)", "proven",
        "dx: the derivative of forward", 0),
    (AHEAD.replace("x * x", "np.sqrt(x * x)") + "def backward(g, x):\n    return g * np.sign(x)\n",
        "x=(3,)", "proven", "dx: the derivative of forward", 0),
    (AHEAD + "def backward(g, x):\n    return 2 * g * x * (1 + 1e-14)\n", "x=(3,)", "undecided",
        "floats see no difference", 0),
    ("def forward(x):\n    return np.linalg.inv(x), x\ndef backward(g, x):\n    return g\n",
        "x=(3, 3)", "undecided", "np.inv has no rule", 0),
    ("def forward(x):\n    return x.view(), x\ndef backward(g, x):\n    return g\n", "x=(3,)",
        "undecided", "has no view", 0),
    ("def forward(x):\n    return x\ndef backward(g, x):\n    return g\n", "x=(3, 3)",
        "not run", "expected forward to return a tuple", 0),
])  # fmt: skip
def test_what_cannot_be_judged_is_said(source, given, verdict, said, line):
    found = judge(source, given)
    assert (found["verdict"], found["line"]) == (verdict, line), found
    assert said in found["says"][0]


def test_what_the_page_runs_is_read_by_its_python():
    pytest.importorskip("mkdocs", reason="needs the extra `docs`")
    for source in import_module("judging").sources().values():
        ast.parse(source, feature_version=(3, 8))
        assert "strict=" not in source
        assert "TypeAlias" not in source


@pytest.fixture(scope="module")
def page(site, chromium):
    """Open the page from the disk."""
    if not (site / "assets/judge/packed/numpy.data.js").is_file():
        pytest.skip("the site was built without npm or network, and lacks Pyodide")
    chromium.open((site / "prove-in-your-browser.html").as_uri())
    return chromium


def test_gradients_are_judged_in_the_browser(page):
    assert not [name for name in page.run("[...document.scripts].map((one) => one.src)")
                if "/packed/" in name]  # fmt: skip
    page.run(f"{JUDGE}('def f(x):\\n    return x.sum(), 1 + 0 * x', 'x=(3,)')")  # loads Python
    for family, changes, said, line in JUDGED:
        begin = time.perf_counter()
        found = page.run(f"{JUDGE}({', '.join(map(json.dumps, asked(family, changes)))})")
        print(f"{time.perf_counter() - begin:.2f} s, {family}: {found['verdict']}")
        check(said, line, found)


TEXT = "document.querySelector('[data-part=%s]').textContent"


def test_the_button_proves_the_example_and_points_to_its_line(page):
    page.run("document.querySelector('[data-part=run]').click()")
    end = time.monotonic() + 60
    while not (verdict := page.run(TEXT % "verdict")):
        assert time.monotonic() < end
        page.run("new Promise((passed) => setTimeout(passed, 20))")
    assert verdict == "refuted"
    assert page.run(TEXT % "says").startswith("line 11: db is 1/5 times the gradient of b")
    assert page.run(TEXT % "line") == "11      db = dout.mean(axis=0)"
