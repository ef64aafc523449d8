"""Pictures of backward: their lines and images are the derivatives and the norms."""

import math

import numpy as np
import pytest
import torch
from helpers import CE, same_number

import lincoln_fn as lf

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from matplotlib.figure import Figure  # only if there is matplotlib


def line(axes, label):
    """Give the points of a line, without its breaks."""
    (found,) = [line for line in axes.lines if line.get_label() == label]
    points = np.array(found.get_xydata())
    return points[np.isfinite(points[:, 1])].T


def breaks(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    x, y = np.array(found.get_xydata()).T
    return x[np.isnan(y)].round(2).tolist()


def by_autograd(function, x):
    x = torch.tensor(x, requires_grad=True)
    y = function(x)
    return y.detach().numpy(), torch.autograd.grad(y.sum(), x)[0].numpy()


# An activation and its derivative


@pytest.mark.parametrize(("layer", "function"), [
    (lf.gelu(), torch.nn.functional.gelu),
    (lf.tanh(), torch.tanh),
    (lf.hardshrink(1.5), lambda x: torch.nn.functional.hardshrink(x, 1.5)),
    (lf.prelu(), lambda x: torch.where(x > 0, x, x / 4)),
], ids=["gelu", "tanh", "hardshrink", "prelu"])  # fmt: skip
def test_the_lines_are_the_function_and_its_derivative(layer, function):
    axes = lf.plots.layer(layer, low=-3.0, high=4.0)
    x, y = line(axes, "y")
    assert (x[0], x[-1], len(x)) == (-3, 4, 1001)
    expected_y, expected_slope = by_autograd(function, x)
    assert same_number((y, line(axes, "dy/dx")), (expected_y, np.stack((x, expected_slope))))
    assert axes.get_title() == layer.name


@pytest.mark.parametrize(("layer", "of_y", "of_slope"), [
    (lf.relu(), [], [0.0]), (lf.hardshrink(2.0), [-2.0, 2.0], [-2.0, 2.0]), (lf.silu(), [], []),
    (lf.selu(), [], [0.0]),
], ids=str)  # fmt: skip
def test_a_line_breaks_only_where_the_function_jumps(layer, of_y, of_slope):
    axes = lf.plots.layer(layer)
    assert same_number(breaks(axes, "y"), of_y, terms=1.0, error=0.02)
    assert same_number(breaks(axes, "dy/dx"), of_slope, terms=1.0, error=0.02)


def test_neither_a_steep_line_nor_rounding_breaks():
    steep = lf.Layer(
        "steep()",
        forward=lambda params, x: (torch.tanh(40 * x), x),
        backward=lambda params, x, g: (40 * g / torch.cosh(40 * x) ** 2, ()),
    )
    assert breaks(lf.plots.layer(steep), "y") == []
    assert breaks(lf.plots.layer(lf.tanh(), low=5.0, high=25.0), "y") == []


def test_given_params_and_axes_are_used():
    given = Figure().subplots()
    params = lf.prelu(init=-0.5).init(lf.Key(0), torch.zeros(1))
    assert lf.plots.layer(lf.prelu(), params, axes=given) is given
    assert line(given, "dy/dx")[1][[0, -1]].tolist() == [-0.5, 1.0]


def test_a_random_layer_is_drawn_as_points_of_its_own_mask():
    axes = lf.plots.layer(lf.dropout(0.75), low=1.0, high=2.0)
    x, y = line(axes, "y")
    slope = line(axes, "dy/dx")[1]
    assert set(slope) == {0.0, 4.0}
    assert same_number(y, slope * x)
    assert {shown.get_linestyle() for shown in axes.lines[:2]} == {"None"}


# The Jacobian


def jacobian_of(layer, params, x):
    """Give the Jacobian in float64 by autograd."""
    found = torch.autograd.functional.jacobian(lambda x: layer.predict(params, x), x)
    return found.reshape(layer.predict(params, x).numel(), x.numel()).numpy()


@pytest.mark.parametrize(("layer", "shape"), [
    (lf.dense(4), (2, 3)), (lf.conv1d(2, 3), (2, 4, 6)), (lf.layer_norm(), (3, 5)),
    (lf.gru(2), (1, 4, 3)),
], ids=str)  # fmt: skip
def test_the_image_is_the_jacobian(layer, shape):
    x = lf.keys.normal(lf.Key(5), shape).double()
    params = layer.init(lf.Key(0), x)
    axes = lf.plots.jacobian(layer, params, x)
    assert same_number(axes.images[0].get_array(), jacobian_of(layer, params, x))
    low, high = axes.images[0].get_clim()
    assert -low == high == np.abs(axes.images[0].get_array()).max()
    assert axes.get_xlabel() == f"x, {shape}"


def test_params_are_drawn_and_inputs_joined():
    x = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0, 7.0]])
    axes = lf.plots.jacobian(lf.multiply(), None, x)
    assert axes.images[0].get_array().tolist() == [[5, 0, 2, 0], [0, 7, 0, 3]]
    drawn = lf.plots.jacobian(lf.dense(2), None, torch.ones(3)).images[0].get_array()
    weight = lf.dense(2).init(lf.Key(0), torch.ones(3)).weight
    assert same_number(drawn, weight.mT, dtype=torch.float32)


def test_lines_separate_the_examples():
    axes = lf.plots.jacobian(lf.glu(), (), torch.ones(3, 4))
    across = [line.get_ydata()[0] for line in axes.lines[::2]]
    down = [line.get_xdata()[0] for line in axes.lines[1::2]]
    assert (across, down) == ([1.5, 3.5], [3.5, 7.5])
    assert not lf.plots.jacobian(lf.glu(), (), torch.ones(4)).lines


# The walk


NET = lf.serial(lf.dense(4), lf.residual(lf.tanh()), lf.dense(2))
X, TARGET = lf.keys.normal(lf.Key(1), (5, 3)), torch.tensor([0, 1, 1, 0, 1])


def test_the_lines_are_the_norms_of_y_and_g(tmp_path):
    params = NET.init(lf.Key(0), X)
    axes = lf.plots.flow(NET, params, X, CE, TARGET)
    y, cache = NET.forward(params, X)
    g = CE.backward(CE.forward(y, TARGET)[1])
    h, _ = NET.parts[0].forward(params[0], X)
    dh = NET.parts[1].input_grad(params[1], cache[1], g @ params[2].weight.mT)
    for end, expected in ((-1, (y, g)), (0, (h, dh))):
        shown = [line.get_xdata()[end] for line in axes.lines]
        assert same_number(shown, [t.norm().item() for t in expected], dtype=torch.float32)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["0 dense(4)", "1.0 tanh()", "1.1 identity()", "1.2 add()", "2 dense(2)"]
    top, bottom = axes.get_ylim()[::-1]
    assert top < 0 < 4 < bottom
    axes.figure.savefig(tmp_path / "flow.png")


def test_norms_without_a_logarithm_are_gaps_with_their_value(tmp_path):
    params = NET.init(lf.Key(0), X)
    params = (*params[:2], lf.tree.map(torch.zeros_like, params[2]))
    given = Figure().subplots()
    assert lf.plots.flow(NET, params, X, CE, TARGET, axes=given) is given
    going, coming = (line.get_xdata() for line in given.lines)
    assert [math.isnan(norm) for norm in going] == [False] * 4 + [True]
    assert [math.isnan(norm) for norm in coming] == [True] * 4 + [False]
    said = {(text.get_position()[1], text.get_text()) for text in given.texts}
    assert said == {(4, "|y| = 0"), *((i, "|g| = 0") for i in range(4))}
    given.figure.savefig(tmp_path / "flow.png")
