"""What a notebook shows: the numbers in the HTML, and HTML that any notebook accepts."""

import math
import pickle
import re
import sys
import types
from html.parser import HTMLParser

import pytest
import torch
from helpers import CE, assert_says, same_number
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn.notebook import view
from lincoln_fn.notebook.markup import curve
from lincoln_fn.notebook.trees import distribution, histogram
from lincoln_fn.notebook.views import sequence_html
from lincoln_fn.training.history import History

X, TARGET = lf.keys.normal(lf.Key(0), (7, 5)), torch.arange(7) % 3
NET = lf.serial(lf.dense(4), lf.relu(), lf.residual(lf.dropout(0.5)), lf.dense(3))
PARAMS = NET.init(lf.Key(0), X)
CACHE = NET.forward(PARAMS, X)[1]
STATE, HISTORY = lf.fit(
    NET, CE, lf.optim.adam(0.01), (X, TARGET), key=lf.Key(0), epochs=3, batch_size=7,
    valid=(X, TARGET), metric=lf.metrics.accuracy, progress=False,
)  # fmt: skip
TRACE = lf.inspect.trace(NET, PARAMS, X, CE, TARGET)
SUMMARY = lf.summary(NET, X)
SHOWN = {
    "layer": NET,
    "network with params and x": view(NET, PARAMS, X),
    "record": PARAMS[0],
    "params": view(PARAMS),
    "cache": view(CACHE),
    "state": STATE,
    "key": lf.Key(3),
    "history": HISTORY,
    "step record": HISTORY[0],
    "trace": TRACE,
    "summary": SUMMARY,
}


class Page(HTMLParser):
    """Read HTML: its texts, its elements, and whether each is closed in its order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts, self.rows = [], [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "title" in self.open:  # the tooltip of a picture
            return
        self.texts.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self):
        return "".join(self.texts)


def html(value):
    return value._repr_html_()


# Every view


@pytest.mark.parametrize("value", SHOWN.values(), ids=SHOWN)
def test_a_view_needs_no_script_and_no_file_and_has_the_colours_of_what_is_around_it(value):
    page = Page(html(value))
    allowed = {"div", "details", "summary", "span", "b", "svg", "path", "title", "text", "circle"}
    assert set(page.tags) <= allowed | {"table", "thead", "tbody", "tr", "th", "td"}
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("href", "src", "class")}
    assert "url(" not in html(value)
    styles = ";".join(text for name, text in page.attributes if name == "style")
    assert set(re.findall(r"(?<![\w-])color:([^;\"]*)", styles)) <= {"inherit"}
    assert set(re.findall(r"background:([^;\"]*)", styles)) <= {"transparent"}
    fills = {text for name, text in page.attributes if name in ("fill", "stroke")}
    assert fills <= {"none", "currentColor", "#0072B2", "#D55E00"}


def test_names_are_escaped():
    script = "<script>alert('x')</script>"
    layer = lf.Layer(f"mine({script!r})", lf.relu().forward, lf.relu().backward)
    for shown in (html(lf.serial(layer, lf.tanh())), view({script: torch.ones(5)}).html):
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown
    assert script in Page(view({script: torch.ones(5)}).html).text


# A network


def test_a_network_is_a_tree_of_calls():
    page = Page(html(NET))
    assert page.texts == [
        NET.name, "0 ", "dense(4)", "1 ", "relu()",
        "2 ", "residual(dropout())", "2.0 ", "dropout()", "2.1 ", "identity()", "2.2 ", "add()",
        "3 ", "dense(3)",
    ]  # fmt: skip
    assert page.tags.count("details") == 2


def test_a_long_call_is_cut_and_its_tooltip_is_whole():
    net = lf.serial(*[lf.dense(n) for n in range(100, 120)])
    shown = html(net)
    assert ("title", net.name) in Page(shown).attributes
    assert net.name not in Page(shown).text
    assert "dense(119)" in Page(shown).text


def test_params_and_x_show_shapes_and_numbers_of_each_layer():
    text = Page(view(NET, PARAMS, X).html).text
    assert "0 dense(4)  y float32[7, 4]  · weight float32[5, 4] · bias float32[4]" in text
    assert "1 relu()  y float32[7, 4]" in text
    assert "40 numbers in params" in text  # of the whole: 5*4 + 4 + 1 + 4*3 + 3
    assert repr(view(NET, PARAMS, X)) == repr(NET)


def test_a_layer_that_is_used_twice_says_so():
    twice = lf.shared(lf.dense(5))
    text = Page(view(twice, twice.init(lf.Key(0), (X, X)), (X, X)).html).text
    assert "0 dense(5)  y float32[7, 5]  · used 2 times · weight float32[5, 5]" in text


def test_params_that_do_not_fit_are_refused_as_the_network_does():
    assert_says("serial[0] dense(4): expected x of shape", view, NET, PARAMS, X[:, :3])
    assert_says("view: expected net to be a Layer", view, PARAMS, NET, X)


# Records


def test_a_record_is_a_table_of_its_tensors():
    weight = torch.tensor([[1.0, -2.5, 4.0], [0.0, 0.5, 3.0]])
    page = Page(html(type(PARAMS[0])(weight, None)))
    assert "dense.Params" in page.text
    assert "1 tensor, 6 numbers" in page.text
    assert page.rows == [
        ["weight", "float32[2, 3]", "", "-2.5 … 4", "mean 1", ""],
        ["bias", "None", "", "", "", ""],
    ]


def test_few_numbers_are_written_and_a_single_one_has_no_range():
    page = Page(view({"a": torch.tensor([0.25, -1.0]), "b": torch.tensor(3), "c": "text"}).html)
    assert page.rows == [
        ["a", "float32[2]", "0.25 -1", "-1 … 0.25", "mean -0.375", ""],
        ["b", "int64 3", "", "", "", ""],
        ["c", "'text'", "", "", "", ""],
    ]


def test_what_is_not_finite_is_counted_and_named():
    x = torch.arange(12.0)
    x[[2, 3, 7]] = torch.tensor([math.nan, math.inf, -math.inf])
    (row,) = Page(view({"x": x}).html).rows
    assert row[3:] == ["0 … 11", "mean 6", "1 nan, 2 inf"]
    (row,) = Page(view({"x": x[2:4]}).html).rows
    assert row[1:] == ["float32[2]", "nan inf", "", "", "1 nan, 1 inf"]


def test_a_tuple_keeps_the_order_of_its_parts():
    text = Page(view((torch.ones(5), PARAMS[0], (), PARAMS[3])).html).text
    places = [text.index(part) for part in ("0float32[5]", "1 dense", "2()", "3 dense")]
    assert places == sorted(places)


DEEP = [lf.serial(lf.tanh()) for _ in range(30)]
OPEN = {
    "a large network": (lf.serial(*DEEP), 1), "a small network": (lf.serial(*DEEP[:5]), 6),
    "a large tree": ((PARAMS[0],) * 30, 1), "a small tree": ((PARAMS[0],) * 3, 4),
}  # fmt: skip


@pytest.mark.parametrize(("value", "count"), OPEN.values(), ids=OPEN)
def test_what_is_large_is_folded_below_its_first_level(value, count):
    assert view(value).html.count("<details open") == count


def test_a_state_says_its_step_and_has_params_optimizer_state_and_key():
    page = Page(html(STATE))
    assert "TrainState after step 3" in page.text
    assert page.text.index("params tuple") < page.text.index("opt_state AdamState")
    assert ["bits", f"int64 {STATE.key.bits.item()}", "", "", "", ""] in page.rows
    assert "gradient_state" not in page.text


def test_a_record_may_have_a_view_of_its_own():
    @lf.record
    class Mine:
        x: Tensor

        def _repr_html_(self):
            return "<b>mine</b>"

    assert (html(Mine(X)), view(Mine(X)).html) == ("<b>mine</b>", "<b>mine</b>")


# Distributions


def test_every_dtype_has_a_distribution():
    numbers = torch.tensor([0, 1, 1, 1])
    for dtype in ("float16", "bfloat16", "float64", "int32", "uint8", "bool"):
        measured = distribution(numbers.to(getattr(torch, dtype)))
        assert (measured.low, measured.high, measured.mean) == (0, 1, 0.75)
        assert measured.shares == (0.25, *[0.0] * 22, 0.75)


@pytest.mark.parametrize("tensor", [
    torch.ones(0), torch.ones(3, dtype=torch.complex64), torch.ones(3, device="meta"),
], ids=["empty", "complex", "meta"])  # fmt: skip
def test_what_has_no_order_or_no_numbers_has_no_distribution(tensor):
    assert distribution(tensor) is None
    assert str(list(tensor.shape)) in Page(view({"x": tensor}).html).text


def test_a_tensor_within_vmap_has_no_distribution():
    def shown(x):
        assert distribution(x) is None
        return x

    torch.func.vmap(shown)(X)


def test_of_a_large_tensor_a_sample_is_drawn_and_nothing_is_copied(monkeypatch):
    x = torch.arange(40_000.0).view(200, 200).mT
    x[7, 3] = math.nan
    monkeypatch.setattr(Tensor, "contiguous", None)
    seen = []
    given = Tensor.double
    monkeypatch.setattr(Tensor, "double", lambda self: seen.append(self.numel()) or given(self))
    measured = distribution(x)
    assert max(seen) == 10_000
    # Of all numbers, though few are sampled.
    assert (measured.low, measured.high, measured.nans, measured.infinities) == (0, 39_999, 1, 0)
    assert same_number(measured.mean, 20_000, error=0.001)
    assert same_number(list(measured.shares), [1 / 24] * 24, error=0.03)


def test_a_sample_meets_every_column_of_a_matrix():
    measured = distribution(torch.arange(16.0).repeat(10_000, 1))
    filled = [share for share in measured.shares if share]
    assert same_number(filled, [1 / 16] * 16, error=0.02)


def test_equal_numbers_are_one_bar_in_the_middle():
    measured = distribution(torch.full((6,), 2.0))
    assert (measured.shares.index(1.0), histogram(measured).count("z")) == (12, 1)


def test_the_bars_are_as_high_as_the_shares():
    measured = distribution(torch.tensor([0.0] * 4 + [1.0] * 8 + [0.5]))
    bars = re.findall(r"M([\d.]+) 18v-([\d.]+)h4V18z", histogram(measured))
    assert [(float(x), float(height)) for x, height in bars] == [(0, 9), (48, 2.25), (92, 18)]
    assert "from 0 to 1, mean 0.6538" in histogram(measured)


# Histories


def places(picture):
    (line,) = re.findall(r'd="(M[^"]*)" fill="none" stroke="red"', picture)
    return [
        [tuple(map(float, point.split())) for point in run.split("L")]
        for run in line.split("M")[1:]
    ]


def test_a_curve_goes_through_its_points_and_names_the_last():
    picture = curve("loss", [(10, 3.0), (20, 1.0), (40, 2.0)], "red")
    ((first, second, last),) = places(picture)
    assert (first, last) == ((64, 18), (402, 75))
    assert same_number(second, (64 + 338 / 3, 132), error=1e-3)
    assert Page(picture).texts == ["loss: 2 at step 40", "3", "1", "10", "step 40"]


def test_a_value_that_is_not_finite_breaks_the_curve():
    picture = curve("loss", [(1, 1.0), (2, 2.0), (3, math.nan), (4, 3.0)], "red")
    assert [len(run) for run in places(picture)] == [2, 1]
    assert Page(picture).tags.count("circle") == 1


def test_a_long_curve_keeps_its_spikes():
    points = [(step, float(step == 4_321)) for step in range(1, 10_001)]
    (run,) = places(curve("loss", points, "red"))
    assert len(run) <= 602
    (spike,) = (x for x, y in run if y == 18)
    assert same_number(spike, 64 + 338 * 4_320 / 9_999, error=3e-4)
    across = [x for x, _ in run]
    assert across == sorted(across)


def test_a_history_shows_loss_metric_and_its_lines():
    page = Page(html(HISTORY))
    assert f"loss: {HISTORY[-1].loss:.4g} at step 3" in page.text
    assert f"metric: {HISTORY[-1].metric:.4g} at step 3" in page.text
    assert page.rows[0] == ["epoch", "step", "loss", "metric", "seconds"]
    assert [row[:3] for row in page.rows[1:]] == [
        [str(record.epoch), str(record.step), f"{record.loss:.4g}"] for record in HISTORY
    ]


def test_the_two_curves_of_a_history_stand_side_by_side_only_where_there_is_room():
    (curves,) = re.findall(r'<div style="white-space:normal">(.*?)</div>', html(HISTORY))
    assert curves.count("<svg ") == 2


def test_a_history_is_a_tuple_that_can_be_pickled():
    assert isinstance(HISTORY, tuple)
    assert tuple(HISTORY) == HISTORY
    again = pickle.loads(pickle.dumps(HISTORY))
    assert type(again) is History
    assert [record.loss for record in again] == [record.loss for record in HISTORY]
    assert "no steps" in html(History())


def test_a_list_of_the_records_of_train_is_a_history():
    records = [lf.StepRecord(i, 1 / i, 32, {"f1": i / 100}) for i in range(1, 51)]
    page = Page(view(records).html)
    assert "loss: 0.02 at step 50" in page.text
    assert "the last 20 of 50 records" in page.text
    assert page.rows[0] == ["step", "loss", "examples", "f1"]
    assert (page.rows[1], len(page.rows)) == (["31", "0.03226", "32", "0.31"], 21)


# Tables


def test_a_trace_is_its_table_with_histograms():
    page = Page(html(TRACE))
    plain = [line.split() for line in str(TRACE).splitlines()]
    headings, *rows = page.rows
    assert headings == [
        "path", "layer", "output", "y", "dL/dy", "|output|", "|gradient|", "|dparams|", "dead", "",
    ]  # fmt: skip
    assert [" ".join(row).split() for row in rows] == plain[2:]
    assert page.tags.count("svg") == 2 * len(TRACE)


def test_a_trace_names_what_is_not_finite():
    bad = lf.tree.map(lambda leaf: leaf * math.inf, PARAMS)
    trace = lf.inspect.trace(NET, bad, X, CE, TARGET)
    assert "output[0, 0] is" in Page(html(trace)).text


def test_a_summary_is_its_table_and_its_remark():
    page = Page(html(SUMMARY))
    plain = str(SUMMARY).splitlines()
    headings, *rows = (" ".join(row).split() for row in page.rows)
    assert headings == plain[0].split()
    assert [row for row in rows if row] == [
        line.split() for line in plain[2:-1] if not line.startswith("─")
    ]
    assert page.text.endswith(plain[-1])
    assert "Numbers in states, which are not trained: 1" in plain[-1]


# IPython


@pytest.fixture
def shell():
    """Make a shell, as far as an extension and a cell use it, with IPython's own formatters."""
    formatters = pytest.importorskip("IPython.core.formatters", reason="there is no IPython")
    return types.SimpleNamespace(display_formatter=formatters.DisplayFormatter())


def shown_by(shell, value):
    """Give what a cell shows of a value, by MIME type."""
    return shell.display_formatter.format(value)[0]


@pytest.mark.parametrize("value", SHOWN.values(), ids=SHOWN)
def test_ipython_shows_the_view(shell, value):
    assert shown_by(shell, value)["text/html"] == html(value)


def test_ipython_shows_the_picture_of_axes(shell):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    shown = shown_by(shell, lf.plots.learning_curve(HISTORY))
    assert shown["image/png"].startswith(b"\x89PNG")


def test_the_extension_shows_tuples_and_lists_until_it_is_unloaded(shell):
    records = [lf.StepRecord(1, 0.5)]
    assert "text/html" not in shown_by(shell, PARAMS)
    lf.notebook.load_ipython_extension(shell)
    assert shown_by(shell, PARAMS)["text/html"] == view(PARAMS).html
    assert shown_by(shell, records)["text/html"] == view(records).html
    assert shown_by(shell, HISTORY)["text/html"] == html(HISTORY)
    assert "text/html" not in shown_by(shell, (1, 2))
    lf.notebook.unload_ipython_extension(shell)
    assert "text/html" not in shown_by(shell, PARAMS)
    lf.notebook.unload_ipython_extension(shell)


def test_a_formatter_of_your_own_stays(shell):
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(tuple, lambda value: "mine")
    lf.notebook.load_ipython_extension(shell)
    lf.notebook.unload_ipython_extension(shell)
    assert shown_by(shell, PARAMS)["text/html"] == "mine"


def test_the_extension_is_loaded_only_within_ipython(monkeypatch):
    loaded = []
    manager = types.SimpleNamespace(load_extension=loaded.append)
    given = [types.SimpleNamespace(extension_manager=manager), None]
    package = types.SimpleNamespace(get_ipython=lambda: given.pop(0))
    monkeypatch.setitem(sys.modules, "IPython", package)
    lf.notebook.load_if_in_ipython()
    lf.notebook.load_if_in_ipython()
    assert loaded == ["lincoln_fn.notebook"]


def test_only_tuples_and_lists_of_records_are_shown_and_their_own_views_stay():
    for value in ((), (1, [2, "text"]), (X, X), range(3)):
        assert sequence_html(value) is None
    for value in ((X, PARAMS), [lf.StepRecord(1, 0.5)]):
        assert sequence_html(value) == view(value).html
    for value in (TRACE, HISTORY):
        assert sequence_html(value) == html(value)
