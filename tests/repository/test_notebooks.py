"""The notebooks run from a clean kernel, reach the figures of the examples, and become pages."""

import os
import re
from functools import cache
from html import unescape
from pathlib import Path

import pytest
from helpers.compare import same_number

import lincoln_fn as lf

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
pytest.importorskip("ipykernel")
notebooks = pytest.importorskip("notebooks", reason="jupytext or nbclient is not installed")
v4 = notebooks.nbformat.v4

CHECK = re.compile(r"<b>(.*?)</b>: (right|wrong|not judged)")


@cache
def outputs(name):
    """List a notebook's outputs: as the built site shows them, or of a run for its one test."""
    if notebooks.needs_mnist(name) and not notebooks.has_mnist():
        pytest.skip("LINCOLN_FN_DATA names no folder with the MNIST files")
    if site := os.environ.get("LINCOLN_FN_SITE"):
        notebook = notebooks.nbformat.read(ROOT / site / f"notebooks/{name}.ipynb", 4)
    else:
        notebook = notebooks.run(name)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in shown if output.get("name") == "stderr"] == []
    return shown


def values(name):
    return [output.data["text/plain"] for output in outputs(name) if "data" in output]


def printed(name):
    return "".join(output.text for output in outputs(name) if output.output_type == "stream")


def checks(name):
    """List what the checker says of each layer: the verdict, the mistakes and the remarks."""
    found = []
    for output in outputs(name):
        html = output.get("data", {}).get("text/html", "")
        if check := CHECK.search(html):
            heads = re.findall(r"<th .*?>(.*?)</th>", html)
            cells = re.findall(r"<td.*?>(.*?)</td>", unescape(html))
            column = heads.index("mistake") if "mistake" in heads else len(cells)
            remarks = re.findall(r"<li>(.*?)</li>", unescape(html))
            mistakes = filter(None, cells[column :: len(heads)])
            found.append((check[1], check[2], *mistakes, *remarks))
    return found


def test_every_notebook_has_its_place():
    files = {file.stem for file in notebooks.FOLDER.glob("*.py")}
    assert files == set(notebooks.NAMES)
    index = (ROOT / "docs/notebooks/index.md").read_text()
    assert re.findall(r"\((\w+)\.md\)", index) == list(notebooks.NAMES)


def test_a_long_notebook_goes_on_at_a_heading(monkeypatch):
    made = {name: notebooks.Page(f"# {name}\n", {}) for name in notebooks.NAMES}
    for name, heading in notebooks.GOES_ON.items():
        assert f"# {heading}\n" in notebooks.source(name)
        made[name] = notebooks.Page(f"# {name}\n\n{heading}\n\nThe rest.\n", {})
    monkeypatch.setattr(notebooks, "make_page", lambda name, source: made[name])
    pages = notebooks.pages()
    assert set(pages) == set(notebooks.page_names())
    assert (
        pages["the_first_notebook_2"].markdown == "# Cross-entropy, and what follows\n\nThe rest.\n"
    )
    assert pages["the_first_notebook"].markdown.endswith("(the_first_notebook_2.md).\n")


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_a_notebook_asks_and_answers(name):
    text = "\n".join(c.source for c in notebooks.read(name).cells if c.cell_type == "markdown")
    assert text.startswith("# ")
    questions = text.count("**Question.**")
    assert questions >= 3
    assert text.count("<summary>Answer</summary>") == text.count("</details>") == questions


def test_the_first_backward_pass():
    name = "first_backward_pass"
    assert values(name)[:2] == ["tensor([ 30., -14.])", "tensor(29.9999)"]
    assert [check[1] for check in checks(name)] == ["right", "wrong", "right", "wrong"]
    assert "forgets g" in checks(name)[1][2]
    assert "5 times too small: averaged where it should be summed?" in checks(name)[3][2]
    first, last = map(float, re.findall(r"\d+\.\d+", printed(name)))
    assert last < 1e-4 < first


def test_what_a_cache_is():
    name = "what_a_cache_is"
    assert checks(name)[0][1] == "right"
    assert "has 1 - x^2 in place of the derivative of tanh()" in checks(name)[1][2]
    assert "by the object:   8.0\ngradient at 3, by the function: 6.0\n" in printed(name)
    kept, lean = map(float, re.findall(r"(\d\.\d) MB", printed(name)))
    assert lean < 0.7 * kept
    assert values(name)[-1] == "True"


def test_batch_norm_by_hand():
    name = "batch_norm_by_hand"
    assert [check[1] for check in checks(name)] == ["right", "wrong"]
    assert (
        "misses the paths through mean() (in <code>x.mean(0)</code>) and mean()"
        in checks(name)[1][2]
    )
    assert values(name)[1] == "True"
    assert printed(name) == "a shift: [True, True, True]\na scale: [True, True, True]\n"


def test_an_lstm_step_by_step():
    name = "lstm_step_by_step"
    assert [check[1] for check in checks(name)] == ["right", "right", "wrong", "wrong"]
    assert "misses the path through matmul() (in <code>h @ w_hh</code>)" in checks(name)[2][2]
    assert "use 1 of 7 only, as if overwritten" in checks(name)[3][2]
    assert values(name)[2] == "True"
    fading, remembering = map(float, re.findall(r"\d\.\d+", printed(name)))
    assert fading < 0.05
    assert remembering > 10 * fading


def test_attention_backward():
    name = "attention_backward"
    assert [check[1] for check in checks(name)] == ["right", "wrong", "wrong", "wrong", "right"]
    assert "dscores, the gradient of scores, has y in place of the" in checks(name)[1][2]
    assert "1.73205 times too large" in checks(name)[2][2]
    assert "dx.0 and dx.1 are swapped" in checks(name)[3][2]
    assert values(name)[-1] == "[True, True, True]"
    table = [[float(number) for number in line.split()] for line in printed(name).split("\n")[1:-1]]
    assert table[-1][1] < table[0][1] / 2  # without the scale
    assert same_number(table[-1][2], table[0][2], error=0.2)


def test_find_the_mistake():
    said = re.split(r"^\d+ .*\n", printed("find_the_mistake"), flags=re.MULTILINE)[1:]
    words = (
        "averaged", "in place", "y sum(g y, 1)", "mean() (in `x.mean(axis=0)`) and var()",
        "matrix product", "pad:-pad", "overwritten", "overwritten",
        "dz, the gradient of `x[:, t] @ wx`, misses the path through matmul()", "5 times too large",
    )  # fmt: skip
    for answer, word in zip(said, words, strict=True):
        assert word in answer


def test_mnist_in_twenty_lines():
    name = "mnist_in_twenty_lines"
    program = next(c.source for c in notebooks.read(name).cells if c.cell_type == "code")
    assert len([line for line in program.splitlines() if line]) == 20
    read = re.match(r"(\d),(\d+) of 10,000 test images", printed(name))
    assert int(read[1] + read[2]) > 9_700
    assert "before training: 2.30" in printed(name)
    assert checks(name)[0][1] == "right"


def test_the_first_notebook():
    """It reaches the old notebook's figures, and the checker finds the old mistakes."""
    name = "the_first_notebook"
    said = printed(name)
    assert float(re.search(r"trained on all, .*: +(\S+)%", said)[1]) >= 98.77
    assert float(re.search(r"trained on four fifths, .*: +(\S+)%", said)[1]) > 93
    assert max(map(float, re.findall(r"metric (\S+)", said))) > 0.968
    compare_mistakes(checks(name))


def compare_mistakes(checked):
    found = [sentence for check in checked for sentence in check[2:]]
    assert "infinite" in found[0]
    assert found[1] == "old_log_sigmoid_loss(): y holds 1 value that is not finite"
    assert "another shape: shape (3,), expected (1, 3)" in found[2]
    assert found[3] == "old_softmax(): y holds 1 value that is not finite"
    assert "dx is its gradient - y sum(g, 1) + e^y sum(g, 1)" in found[4]
    assert len(found) == 5
    right = {check[0] for check in checked if check[1] == "right"}
    ours = {"log_sigmoid()", "softmax()", "log_softmax()"}
    assert right == ours | {"log_sigmoid_loss()", "cross_entropy()", "nll()"} | {
        f"old_{name}()" for name in ("log_sigmoid", "log_sigmoid_loss", "softmax")
    }


def test_a_page_has_text_code_outputs_and_pictures():
    pixel = "iVBORw0KGgo="
    shown = [
        v4.new_output("stream", text="one\n"),
        v4.new_output("execute_result", {"text/plain": "2"}),
        v4.new_output("execute_result", {"text/plain": "rich", "text/html": "<b>3</b>"}),
        v4.new_output(
            "execute_result",
            {"image/png": pixel, "text/plain": "<Axes: title={'center': 'a \"curve\"'}>"},
            metadata={"image/png": {"width": 640}},
        ),
    ]
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("1 + 1", outputs=shown)]
    page = notebooks.page("mine", v4.new_notebook(cells=cells))
    assert page.markdown.split("\n\n") == [
        "# Title",
        "```python\n1 + 1\n```",
        "```text\none\n```",
        "```text\n2\n```",
        '<div class="output">\n<b>3</b>\n</div>',
        '<figure class="output"><img src="mine-1.png" width="640" alt="a &quot;curve&quot;">'
        "</figure>",
        "[This page as a notebook](mine.ipynb)\n",
    ]
    assert page.files["mine-1.png"] == b"\x89PNG\r\n\x1a\n"
    assert set(page.files) == {"mine-1.png", "mine.ipynb"}


def test_a_page_is_the_same_in_every_build():
    """Two runs have other random ids, begin at other times, and take other seconds."""

    def build(seconds):
        records = lf.FitRecord(10, 1, 0.9, 0.5, seconds), lf.FitRecord(20, 1, 0.75, None, seconds)
        run = lf.History(records)
        data = {"text/plain": repr(run), "text/html": run._repr_html_()}
        cell = v4.new_code_cell("history", outputs=[v4.new_output("execute_result", data)])
        cell.metadata["execution"] = {"iopub.status.busy": f"{seconds}"}
        return notebooks.page("mine", v4.new_notebook(cells=[v4.new_markdown_cell("#"), cell]))

    page = build(12.125)
    assert page == build(7e-05)
    for text in (page.markdown, page.files["mine.ipynb"].decode()):
        assert all(number in text for number in ("0.9", "0.5", "0.75"))


def test_a_page_without_data_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "LINCOLN_FN_DATA", str(tmp_path))
    monkeypatch.setattr(notebooks, "run", None)
    page = notebooks.make_page("mnist_in_twenty_lines", "")
    before, _, after = page.markdown.partition(notebooks.NO_DATA)
    assert "```" not in before
    assert "```python\nimport os\n" in after
    assert "```text" not in after
