"""The pictures hold the numbers that they are made of."""

import math
import struct

import pytest
import torch
from helpers import printed_by_child, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import plots

matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from matplotlib.figure import Figure  # noqa: E402  # only if there is matplotlib

HISTORY = [
    lf.FitRecord(10, 1, 0.9, 0.5, 0.1),
    lf.FitRecord(20, 1, 0.5, None, 0.2),
    lf.FitRecord(30, 2, 0.25, 0.75, 0.3),
]
OTHER = [lf.FitRecord(15, 1, 0.8, 0.6, 0.1)]
X = torch.ones(1)


@pytest.fixture
def given():
    """Make axes to draw on."""
    return Figure().subplots()


def is_drawn(axes, tmp_path):
    """Save the figure, where warnings about what cannot be drawn are errors."""
    path = tmp_path / "picture.png"
    axes.figure.savefig(path, dpi=30)
    return path.stat().st_size > 500


def shown(axes):
    """Give the numbers of an image, None where there is none."""
    return axes.images[0].get_array().tolist()


# Without matplotlib, and without pyplot

WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None  # makes its import fail
sys.modules["matplotlib.figure"] = None
import torch
from lincoln_fn import plots
from lincoln_fn.inspect import trace
try:
    plots.filters(torch.eye(4))
except ImportError as error:
    print(error)
"""

WITHOUT_PYPLOT = """
import sys, torch
from lincoln_fn import StepRecord, plots
assert "matplotlib" not in sys.modules
plots.learning_curve([StepRecord(1, 0.5)])
plots.gradient_norms({1: {"dense": 0.5}})
plots.confusion_matrix(torch.tensor([0, 1]), torch.tensor([0, 1]))
plots.filters(torch.eye(4))
plots.activations({"dense": torch.eye(4)})[0].figure.savefig(sys.stdout.buffer, format="svg")
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_module_imports_without_matplotlib_and_says_what_is_missing():
    expected = "lincoln_fn.plots draws by matplotlib; pip install 'lincoln_fn[plot]'\n"
    assert printed_by_child(WITHOUT_MATPLOTLIB) == expected


def test_pyplot_is_never_touched():
    assert printed_by_child(WITHOUT_PYPLOT).rstrip().endswith("</svg>")


# In a notebook


@pytest.mark.full(but=("[axes]",))
@pytest.mark.parametrize(("draw", "size"), [
    (lambda: plots.learning_curve(HISTORY), (640, 480)),
    (lambda: plots.learning_curve(HISTORY).figure, (640, 480)),
    (lambda: plots.activations({"a": torch.eye(2), "b": torch.eye(3)}), (640, 480)),
    (lambda: plots.layer(lf.relu()), (640, 400)),
], ids=["axes", "figure", "several axes", "other size"])  # fmt: skip
def test_a_notebook_shows_the_figure_at_its_size_with_twice_the_pixels(draw, size):
    picture, metadata = draw()._repr_png_()
    assert (metadata["width"], metadata["height"]) == size
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">2I", picture[16:24]) == (2 * size[0], 2 * size[1])


def test_axes_that_are_given_are_returned_and_not_ours(given):
    assert plots.activations({"a": torch.eye(2)}, axes=[given])[0] is given
    assert not hasattr(plots.learning_curve(HISTORY, axes=given), "_repr_png_")


# Learning curves


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


STEPS = [lf.StepRecord(1, 0.5), *(lf.StepRecord(n, 0.3, scores={"f2": n / 10}) for n in (2, 4))]
FITTED = [lf.FitRecord(9, 1, 0.9, 0.5, 0.1, parts={"kind": 2.0}, scores={"f1": 0.5})]
# By value, records, its points in those that have it, and its name.
CURVES = {
    "loss": (HISTORY, [[10, 0.9], [20, 0.5], [30, 0.25]], "training loss"),
    "metric": (HISTORY, [[10, 0.5], [30, 0.75]], "validation metric"),
    "f2": (STEPS, [[2, 0.2], [4, 0.4]], "f2"),
    "f1": (FITTED, [[9, 0.5]], "f1"),
    "kind": (FITTED, [[9, 2.0]], "kind"),
}


@pytest.mark.parametrize("value", CURVES)
def test_a_learning_curve_is_a_line_through_the_records_that_have_the_value(value, given, tmp_path):
    records, points, name = CURVES[value]
    assert plots.learning_curve(records, value, axes=given) is given
    assert list(lines(given).values()) == [points]
    assert (given.get_xlabel(), given.get_ylabel(), given.get_legend()) == ("step", name, None)
    assert is_drawn(given, tmp_path)


def test_several_runs_have_lines_that_can_be_told_apart(tmp_path):
    runs = {f"run {i}": HISTORY for i in range(9)} | {"other": OTHER}
    axes = plots.learning_curve(runs)
    assert (lines(axes)["run 0"], lines(axes)["other"]) == (lines(axes)["run 8"], [[15, 0.8]])
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == list(runs)
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == len(runs)
    assert is_drawn(axes, tmp_path)


def test_what_train_tells_of_its_steps_is_a_history_too():
    records = [lf.StepRecord(step, 1 / step) for step in range(1, 100)]
    axes = plots.learning_curve(records)
    assert axes.lines[0].get_ydata().tolist() == [1 / step for step in range(1, 100)]
    assert axes.lines[0].get_marker() == "None"


# Gradient norms


def test_gradient_norms_are_rows_of_layers_and_columns_of_steps(tmp_path):
    norms = {20: {"0 dense": 0.5, "1 tanh": 0.25}, 3: {"0 dense": 0.125, "2 dense": 4.0}}
    axes = plots.gradient_norms(norms)
    assert shown(axes) == [[0.125, 0.5], [None, 0.25], [4.0, None]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0 dense", "1 tanh", "2 dense"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3", "20"]
    assert is_drawn(axes, tmp_path)


def test_layers_stand_in_the_order_in_which_they_are_given():
    axes = plots.gradient_norms({1: {"a": 1.0, "b": 2.0}, 2: {"b": 3.0, "a": 4.0}})
    assert shown(axes) == [[1, 4], [2, 3]]


def test_norms_that_have_no_logarithm_leave_a_gap(given, tmp_path):
    norms = {1: {"a": 0.0, "b": math.inf}, 2: {"a": math.nan, "b": 2.0}}
    assert plots.gradient_norms(norms, axes=given) is given
    assert shown(given) == [[None, None], [None, 2.0]]
    assert is_drawn(given, tmp_path)
    assert is_drawn(plots.gradient_norms({1: {"a": 0.0}}), tmp_path)


# Confusion matrix

TARGET = torch.tensor([0, 0, 0, 0, 1, 2])
PREDICTED = torch.tensor([0, 0, 1, 2, 1, 0])
SHARES = [[0.5, 0.25, 0.25], [0, 1, 0], [1, 0, 0]]


def written(axes):
    return {tuple(reversed(text.get_position())): text.get_text() for text in axes.texts}


def test_a_confusion_matrix_shows_shares_and_counts(tmp_path):
    axes = plots.confusion_matrix(PREDICTED, TARGET, labels=["cat", "dog", "gnu"])
    assert shown(axes) == SHARES
    counts = [["2", "1", "1"], ["0", "1", "0"], ["1", "0", "0"]]
    assert written(axes) == {(i, j): counts[i][j] for i in range(3) for j in range(3)}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "dog", "gnu"]
    assert (axes.get_ylabel(), axes.get_title()) == ("class", "Confusion matrix, 6 examples")
    assert is_drawn(axes, tmp_path)


def test_of_scores_the_highest_counts(given):
    scores = torch.nn.functional.one_hot(PREDICTED, 4) * 2.0 - 1
    assert plots.confusion_matrix(scores, TARGET[:, None], axes=given) is given
    assert shown(given) == [[*row, 0] for row in SHARES] + [[0] * 4]


def test_many_classes_have_no_numbers(tmp_path):
    classes = torch.arange(40)
    axes = plots.confusion_matrix(classes, classes)
    assert shown(axes) == torch.eye(40).tolist()
    assert not axes.texts
    assert is_drawn(axes, tmp_path)


# Filters


GAP = [None] * 5
TILES = {
    "a dense layer, square": (torch.arange(12.0).view(4, 3), {}, "3 outputs",  # of four pixels each
        [[0, 3, None, 1, 4], [6, 9, None, 7, 10], GAP,
        [2, 5, None, None, None], [8, 11, None, None, None]]),
    "a dense layer of another shape": (torch.arange(6.0).view(6, 1), {"image_shape": (2, 3)},
        "1 outputs", [[0, 1, 2], [3, 4, 5]]),
    "the first outputs of many": (torch.arange(100.0).view(100, 1, 1, 1), {"count": 4},
        "4 of 100 outputs", [[0, None, 1], [None] * 3, [2, None, 3]]),
    "a convolution of three channels, in colour": (torch.tensor([1.0, -1.0, 0]).view(1, 3, 1, 1),
        {}, "1 outputs", [[[1, 0, 0.5]]]),
    "a convolution of several channels, a row for each output":
        (torch.arange(4.0).view(2, 2, 1, 1), {}, "2 outputs",
        [[0, None, 1], [None] * 3, [2, None, 3]]),
    "a convolution along a length, with channels for rows": (torch.arange(6.0).view(1, 2, 3),
        {}, "1 outputs", [[0, 1, 2], [3, 4, 5]]),
}  # fmt: skip


@pytest.mark.parametrize(("weight", "options", "title", "tiles"), TILES.values(), ids=TILES)
def test_the_weights_of_each_output_are_a_tile(weight, options, title, tiles, given, tmp_path):
    assert plots.filters(weight, **options, axes=given) is given
    assert (shown(given), given.get_title()) == (tiles, f"First layer's weights, {title}")
    assert is_drawn(given, tmp_path)


def test_positive_and_negative_weights_have_one_scale():
    weight = torch.cat([torch.tensor([0.5, -0.25, 0.0, 0.5]), torch.full((4,), -0.5)]).view(2, 4).mT
    image = plots.filters(weight).images[0]
    assert image.get_clim() == (-0.5, 0.5)
    red, blue = image.cmap(image.norm(0.5)), image.cmap(image.norm(-0.5))
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_weights_of_zero_are_drawn(tmp_path):
    axes = plots.filters(torch.zeros(4, 2))
    assert axes.images[0].get_clim() == (-1, 1)
    assert is_drawn(axes, tmp_path)


# Activations


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_the_bars_of_a_histogram_are_shares(tmp_path):
    outputs = {
        "relu()": torch.tensor([[0.0, 0.0], [0.4, 4.0]]),
        "tanh()": torch.tensor([-1.0, 1.0]),
    }
    first, second = plots.activations(outputs, bins=4)
    assert (heights(first), heights(second)) == ([0.75, 0, 0, 0.25], [0.5, 0, 0, 0.5])
    assert [bar.get_x() for bar in second.patches] == [-1, -0.5, 0, 0.5]
    assert [axes.get_title() for axes in (first, second)] == ["relu()", "tanh()"]
    assert first.figure is second.figure
    assert is_drawn(first, tmp_path)


def test_values_that_are_not_finite_are_counted_apart(tmp_path):
    y = torch.tensor([1.0, torch.nan, torch.inf, 3.0])
    first, second = plots.activations({"a": y, "b": y[1:3]}, bins=2)
    assert (first.get_title(), heights(first)) == ("a\n2 not finite", [0.5, 0.5])
    assert heights(second) == []
    assert is_drawn(first, tmp_path)


def test_all_outputs_of_a_layer_count_and_masks_do_not(given):
    mask = torch.ones(4, dtype=torch.bool)
    y = (torch.zeros(3), (torch.ones(1), mask))
    assert plots.activations({"pair()": y}, bins=2, axes=[given]) == (given,)
    assert heights(given) == [0.75, 0.25]


@pytest.mark.full
def test_every_layer_of_a_deep_network_has_axes(tmp_path):
    outputs = {
        f"{i} a_layer_of_a_rather_long_name(and=arguments)": torch.arange(9.0) for i in range(20)
    }
    axes = plots.activations(outputs)
    assert (len(axes), len({one.get_position().bounds for one in axes})) == (20, 20)
    assert is_drawn(axes[0], tmp_path)


def test_a_graph_shows_each_value_below_those_it_is_computed_of(tmp_path):
    net = lf.graph(
        lambda x, *, w: (torch.tanh(h := x @ w) + h, locals()),
        init=lambda key, x: {"w": torch.eye(3)},
    )
    x = torch.ones(2, 3)
    params = net.init(lf.Key(0), x)
    gradients = lf.gradients_by_name(net, params, net.forward(params, x)[1], torch.ones(2, 3))
    axes = plots.graph(net, gradients)
    shown = [text.get_text().split("\n") for text in axes.texts]
    assert [name for name, _ in shown] == ["x", "w", "h = matmul()", "tanh()", "add()"]
    assert shown[-1][1] == f"|g| = {6**0.5:.3g}"
    pairs = zip(shown, axes.texts, strict=True)
    heights = {name: text.get_position()[1] for (name, _), text in pairs}
    assert heights == {"x": 0, "w": 0, "h = matmul()": -1, "tanh()": -2, "add()": -3}
    places = [text.get_position() for text in axes.texts]
    ends = [(line.get_xydata()[0], line.get_xydata()[-1]) for line in axes.lines]
    lines = [tuple(places.index(tuple(end)) for end in pair) for pair in ends]
    assert lines == [(0, 2), (1, 2), (2, 3), (3, 4), (2, 4)]
    assert is_drawn(axes, tmp_path)


# Attributions


def test_relevance_is_summed_over_channels_on_a_scale_around_zero(tmp_path):
    values = torch.tensor([[[1.0, 0.0, -3.0]], [[0.5, 0.0, 1.0]]])
    axes = plots.relevance(values)
    (image,) = axes.images
    assert same_number(image.get_array(), torch.tensor([[1.5, 0, -2]]), dtype=torch.float32)
    low, high = image.get_clim()
    assert -low == high
    assert same_number(high, 2, error=0.01)
    red, _, blue, _ = image.cmap(image.norm(high))
    assert red > blue
    assert is_drawn(axes, tmp_path)


def test_a_coarse_map_covers_the_image_below_it(tmp_path):
    given = Figure().subplots()
    picture = torch.arange(12.0).view(1, 4, 3)
    assert plots.relevance(torch.eye(2), image=picture, axes=given) is given
    below, above = given.images
    assert below.get_array().tolist() == picture[0].tolist()
    assert above.get_extent() == [-0.5, 2.5, 3.5, -0.5]
    assert same_number(above.get_alpha().ravel().tolist(), [0.9, 0.15, 0.15, 0.9], error=1e-7)
    assert is_drawn(given, tmp_path)


def test_effects_are_rows_of_layers_and_columns_of_positions(tmp_path):
    rows = {"0 embedding": torch.tensor([0.5, -1.0]), "1 residual": torch.tensor([0.0, 2.0])}
    axes = plots.effects(rows, columns=["a", "␣"], label="change")
    assert axes.images[0].get_array().tolist() == [[0.5, -1], [0, 2]]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(rows)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "␣"]
    assert axes.figure.axes[1].get_ylabel() == "change"
    assert is_drawn(axes, tmp_path)


def test_zeros_are_drawn(tmp_path):
    for axes in (plots.relevance(torch.zeros(2, 3)), plots.effects({"0": torch.zeros(3)})):
        assert axes.images[0].get_clim() == (-1, 1)
        assert is_drawn(axes, tmp_path)


# What is refused


HALVED = lf.Layer("halved()", lambda params, x: (x[::2], len(x)), lambda params, n, g: (g, ()))
test_what_cannot_be_drawn_is_refused = refusals("""
plots.learning_curve([]) -> ValueError: learning_curve: expected records with 'loss', got none
plots.learning_curve({}) -> ValueError: learning_curve: expected at least one run, got none
plots.learning_curve([HISTORY[1]], 'metric') -> ValueError: learning_curve: expected records with
    'metric', got records with loss
plots.learning_curve({'first': HISTORY, 'second': []}) -> ValueError: learning_curve: ... got none
    of 'second'
plots.learning_curve(HISTORY, 'accuracy') -> ValueError: learning_curve: expected records with
    'accuracy', got records with loss, metric
plots.gradient_norms({1: {}}) -> ValueError: gradient_norms: ... at least one layer
plots.confusion_matrix(PREDICTED / 2, TARGET) -> ValueError: confusion_matrix: expected prediction
    of shape ... got torch.float32
plots.confusion_matrix(torch.zeros(6, 1), TARGET) -> ValueError: confusion_matrix: expected
    prediction of shape ... (6, 1)
plots.confusion_matrix(PREDICTED, TARGET[:5]) -> ValueError: confusion_matrix: expected target of
    shape (6,), got (5,)
plots.confusion_matrix(PREDICTED[:0], TARGET[:0]) -> ValueError: confusion_matrix: expected target
    of shape (1,)
plots.confusion_matrix(PREDICTED, TARGET, labels=['a', 'b']) -> ValueError: confusion_matrix:
    expected classes from 0 to 1, got 0 to 2
plots.confusion_matrix(torch.zeros(6, 3), TARGET, labels=['a']) -> ValueError: confusion_matrix:
    expected 3 labels, got 1
plots.confusion_matrix(torch.zeros(6, 2), TARGET) -> ValueError: confusion_matrix: expected classes
    from 0 to 1, got 0 to 2$
plots.confusion_matrix(PREDICTED - 1, TARGET) -> ValueError: confusion_matrix: expected classes from
    0 to 2, got -1 to 2
plots.filters(torch.zeros(5, 2)) -> ValueError: filters: expected square images, got 5 inputs; give
    image_shape
plots.filters(torch.zeros(5, 2), image_shape=(2, 2)) -> ValueError: filters: expected images of
    shape (2, 2), got 5 inputs
plots.filters(torch.zeros(5)) -> ValueError: filters: expected a weight of 2, 3 or 4 axes, got shape
    (5,)
plots.filters(torch.zeros(1, 2, 2, 2, 2)) -> ValueError: filters: expected a weight of 2, 3 or 4
    axes
plots.activations({'a': X, 'b': X}, axes=[Figure().subplots()]) -> ValueError: activations: expected
    2 axes, got 1
plots.activations({}) -> ValueError: activations: ... at least one layer
plots.graph(tanh()) -> plots.graph: expected net to be made by lf.graph
plots.relevance(torch.zeros(3)) -> ValueError: relevance: expected values of shape ... (3,)
plots.relevance(torch.zeros(2, 2), image=torch.zeros(1, 1, 2, 2)) -> ValueError: relevance: expected
    image of shape
plots.effects({}) -> ValueError: effects: expected a tensor of one axis ... got shapes []
plots.effects({'0': torch.zeros(2), '1': torch.zeros(3)}) -> ValueError: effects: ... got shapes
    [(2,), (3,)]
plots.effects({'0': torch.zeros(2)}, columns=['a']) -> ValueError: effects: expected 2 columns, got
    1
plots.jacobian(relu(), None, torch.ones(2001)) -> ValueError: jacobian: expected y of at most 2000
    numbers ... got 2001
plots.jacobian(embedding(5, 2), None, torch.tensor([3])) -> ValueError: jacobian: expected an x with
    a gradient, embed
plots.layer(relu) -> layer: expected layer to be a Layer ... write relu()
plots.layer(softmax()) -> element by element, got softmax( ... ; lf.plots.jacobian
plots.layer(layer_norm()) -> element by element, got layer_norm( ... ; lf.plots.jacobian
plots.layer(conv2d(3, 3)) -> element by element, got conv2d( ... ; lf.plots.jacobian
plots.layer(HALVED) -> element by element, got halved( ... ; lf.plots.jacobian
""")
