"""Right code is never refused: on kinks and ties, of any size, in any precision, out of torch."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from helpers import CASES
from helpers.losses import TABLE

import lincoln_fn as lf
from lincoln_fn.testing import GradientError, check_layer, check_loss

pytestmark = pytest.mark.filterwarnings("ignore:reduction:UserWarning")
INPUTS = {
    "zeros": torch.zeros_like, "ties": lambda x: (1.5 * x).round(), "tiny": lambda x: 1e-4 * x,
    "large": lambda x: 1e4 * x,
}  # fmt: skip


def changed(x, how):
    return lf.tree.map(lambda leaf: INPUTS[how](leaf) if leaf.is_floating_point() else leaf, x)


def accepts(case, x):
    """Say whether the layer can compute at x at all: a fixed point may not be found there."""
    try:
        y = case.layer.forward(case.params(), x)[0]
    except lf.LayerError:
        return False
    return all(bool(leaf.isfinite().all()) for leaf in lf.tree.leaves(y))


# Each layer meets one of the inputs; layers come in many configurations, and so meet all.
SMALL = [case for case in CASES if len(lf.tree.leaves(case.params())) < 20]
PAIRS = [(how, case) for i, how in enumerate(INPUTS) for case in SMALL[i :: 3 * len(INPUTS)]]


@pytest.mark.full(but=("[zeros-",))
@pytest.mark.parametrize(("how", "case"), PAIRS, ids=str)
def test_layers_are_right_on_kinks_and_of_any_size(how, case):
    x = changed(case.x, how)
    if accepts(case, x):
        check_layer(case.layer, case.params(), x, predict_is_forward=case.predict_is_forward)


@pytest.mark.full(but=("-zeros]",))
@pytest.mark.parametrize("how", ["zeros", "ties", "tiny"])
@pytest.mark.parametrize("row", [row for row in TABLE if row.wide][::3], ids=str)
def test_losses_are_right_on_kinks_and_of_any_size(row, how):
    check_loss(row.loss("mean"), changed(row.prediction, how), row.target)


@pytest.fixture(scope="module")
def digits():
    """Eight handwritten digits of scikit-learn, 8 by 8, with many zeros and ties."""
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().images[:8]).float().unsqueeze(1) / 16


CNN = lf.serial(
    lf.conv2d(4, 3, padding=1), lf.relu(), lf.max_pool2d(2), lf.conv2d(6, 3), lf.relu(),
    lf.flatten(), lf.dense(10), lf.log_softmax(),
)  # fmt: skip


@pytest.mark.full(but=("serial", "batch_norm"))
@pytest.mark.parametrize("layer", [
    CNN, lf.max_pool2d(2), lf.relu(), lf.softmax(), lf.batch_norm(), lf.lp_pool2d(2, 2),
], ids=lambda layer: layer.name[:20])  # fmt: skip
def test_layers_are_right_on_digits(layer, digits):
    check_layer(layer, layer.init(lf.Key(0), digits), digits)


def test_a_relu_is_right_on_a_kink_and_the_report_says_where():
    report = check_layer(lf.relu(), (), torch.tensor([-1.0, 0.0, 2.0]), all=True)
    assert report.is_right
    assert (report.remarks, report.findings[0].left_out) == (("x lies on a kink at [1]",), ((1,),))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_any_slope_between_those_around_is_right(slope):
    check_layer(mine(torch.relu, lambda x, g: g * torch.heaviside(x, 0 * x + slope)), (), ON_KINK)


def mine(function, dx):
    """Make a layer without parameters, whose cache is x."""
    return lf.Layer(
        "mine()", lambda params, x: (function(x), x), lambda params, x, g: (dx(x, g), ())
    )


def tanh_back(x, g):
    return g * (1 - torch.tanh(x) ** 2)


def by_buffer(x, g):
    dx = torch.zeros(x.shape)
    dx[x > 0] = g[x > 0].float()
    return dx


def cast_and_changed(x):
    low = x.float()
    return low.tanh_()


def numpy_tanh(x, dtype=np.float64):
    return torch.from_numpy(np.tanh(x.detach().numpy().astype(dtype)))


def in_float32_alone(x):
    if x.dtype != torch.float32:
        raise AssertionError
    return 2 * x


def rounded_without_grad(x):
    with torch.no_grad():
        step = x.round() - x
    return x + step


ON_KINK = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
X, ZEROS = lf.keys.normal(lf.Key(1), (5, 3)), torch.zeros(2, 3, 6)
KERNEL = lf.keys.normal(lf.Key(3), (3, 4))
SQRT = mine(torch.sqrt, lambda x, g: g / (2 * torch.sqrt(x)))
DETACHED = {
    "detach": (lambda x: x + (x.round() - x).detach(), lambda x, g: 1 * g),
    "data": (lambda x: x + (x.round() - x).data, lambda x, g: 1 * g),
    "no_grad": (rounded_without_grad, lambda x, g: 1 * g),
    "a factor": (lambda x: x * x.data, lambda x, g: x * g),
}
CUT = "dx cannot be judged: forward detaches a part, and autograd and differences disagree"
# For right code: the layer, its x, the verdict, and a remark; "" for none, and None for any.
RIGHT = {
    "a sigmoid of a thousand": (mine(lambda x: 1 / (1 + torch.exp(-x)),
        lambda x, g: g * torch.sigmoid(x) * torch.sigmoid(-x)), torch.tensor([-1000.0, 0.5, 1000]),
        "right", None),
    "square roots near zero": (SQRT, torch.tensor([1e-12, 1e-6, 1.0]), "right", None),
    "a square root of zero": (SQRT, torch.tensor([0.0, 4.0]), "right", None),
    "tiny numbers": (lf.relu(), 1e-4 * lf.keys.normal(lf.Key(2), (200, 100)), "right", None),
    "two kinks that cancel": (mine(lambda x: torch.relu(x) - torch.relu(-x),
        lambda x, g: g * (x != 0)), ON_KINK, "right", None),
    "places of several scales": (mine(torch.log, lambda x, g: g / x),
        torch.tensor([1e-8, 1.0, 1e6], dtype=torch.float64), "right", None),
    "numbers that are refused if negative": (lf.lp_pool1d(3, 2), ZEROS, "right", None),
    "the same, with roots": (lf.lp_pool1d(1.5, 2), ZEROS, "right", None),
    "a cast": (mine(lambda x: torch.tanh(x.float()), tanh_back), X, "right",
        "float() makes float32: checked in float64"),
    "a cast, changed in place": (mine(cast_and_changed, tanh_back), X, "right",
        "float() makes float32: checked in float64"),
    "bfloat16": (mine(lambda x: torch.tanh(x.bfloat16()).to(x.dtype), tanh_back), X, "right",
        "bfloat16() makes bfloat16: checked in float64"),
    "a buffer": (mine(torch.relu, by_buffer), X, "right",
        "zeros() makes float32: checked in float64"),
    "ones of a length": (mine(lambda x: x.sum(1),
        lambda x, g: g[:, None] @ torch.ones(1, x.shape[1])), X, "right",
        "ones() makes float32: checked in float64"),
    "a fixed kernel": (mine(lambda x: x @ KERNEL, lambda x, g: g @ KERNEL.mT), X, "right",
        "matmul() mixes float32 with float64: checked in float64"),
    "a part detached": (mine(lambda x: torch.tanh(x.detach()), tanh_back), X, "right",
        "dx: autograd gives another value: does forward detach a part?"),
    "numpy": (mine(numpy_tanh, tanh_back), X, "right", ""),
    "float32 of numpy": (mine(partial(numpy_tanh, dtype=np.float32), tanh_back), X, "not judged",
        "dx cannot be judged: the oracles see too few digits, or nan"),
    "an infinite output": (mine(torch.exp, lambda x, g: g * torch.exp(x)), 1e4 * X, "not judged",
        "y is infinite for these numbers: take smaller ones"),
    **{how: (mine(*functions), X, "not judged", CUT) for how, functions in DETACHED.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_is_never_refused_and_told_what_loses_digits(name):
    layer, x, verdict, remark = RIGHT[name]
    check_layer(layer, (), x)
    report = check_layer(layer, (), x, all=True)
    assert [finding.verdict for finding in report.findings] == [verdict]
    assert remark is None or (remark in report.remarks if remark else report.remarks == ())


WRONG = {
    "a smooth place beside kinks": (mine(torch.clone, lambda x, g: g * (x != 0)), ON_KINK, "dx is"),
    "kinks": (mine(torch.relu, lambda x, g: 2 * g * (x > 0)), ON_KINK, "dx "),
    "a fixed kernel": (mine(lambda x: x @ KERNEL, lambda x, g: -g @ KERNEL.mT), X,
        "dx has the wrong sign$"),
    "float32 alone": (mine(in_float32_alone, lambda x, g: 2 * g), X, r"forward raised "
        r"AssertionError \(it takes float32, but the checker passes float64\)$"),
    "low precision": (mine(lambda x: torch.tanh(x.float()), lambda x, g: g), X,
        r"dx lacks the derivative of tanh\(\) \(in `torch.tanh\(x.float\(\)\)`\)"),
    "nan": (mine(lambda x: torch.exp(x) / torch.exp(x), lambda x, g: 0 * g), 1e4 * X, "y holds"),
    **{how: (mine(forward, lambda x, g: 3 * g), X, "dx ")
       for how, (forward, _) in DETACHED.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_seen_beside_what_hides_it(name):
    layer, x, message = WRONG[name]
    (mistake,) = check_layer(layer, (), x, all=True).mistakes
    assert re.match(rf"mine\(\): {message}", str(mistake))
    assert mistake.leaf == ("dx" if message.startswith("dx") else "forward")


def test_forward_may_run_in_inference_mode():
    @torch.inference_mode()
    def forward(params, x):
        y = torch.tanh(x)
        return y, y

    right = lf.Layer("mine()", forward, lambda params, y, g: (g * (1 - y * y), ()))
    assert check_layer(right, (), X, all=True).is_right
    with pytest.raises(GradientError, match=r"dx is g itself: the derivative is missing$"):
        check_layer(right.replace(backward=lambda params, y, g: (g, ())), (), X)


def test_a_variance_below_the_least_one_is_no_alarm():
    loss = lf.losses.gaussian_nll(full=True, eps=0.1)
    prediction = (X, torch.full((5, 3), 1e-4))
    assert check_loss(loss, prediction, torch.zeros(5, 3), all=True).is_right


@pytest.mark.parametrize(
    "case", [case for case in CASES[::40] if case.note != "a single row"], ids=str
)
def test_a_batch_of_one_is_right(case):
    if isinstance(case.x, torch.Tensor) and case.x.ndim > 1 and case.x.is_floating_point():
        x = case.x[:1]
        check_layer(case.layer, case.layer.init(lf.Key(0), x), x, predict_is_forward=False)
