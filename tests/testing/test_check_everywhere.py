"""Right code is never refused: on kinks and ties, of any size, in any precision, out of torch."""

import numpy as np
import pytest
import torch
from helpers.cases import CASES
from helpers.losses import TABLE

import lincoln_fn as lf
from lincoln_fn import keys
from lincoln_fn.testing import GradientError, check_layer, check_loss

pytestmark = pytest.mark.filterwarnings("ignore:reduction:UserWarning")
INPUTS = {
    "zeros": torch.zeros_like,
    "ties": lambda x: (1.5 * x).round(),
    "tiny": lambda x: 1e-4 * x,
    "large": lambda x: 1e4 * x,
}


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


@pytest.mark.parametrize(("how", "case"), PAIRS, ids=str)
def test_layers_are_right_on_kinks_and_of_any_size(how, case):
    x = changed(case.x, how)
    if accepts(case, x):
        check_layer(case.layer, case.params(), x, predict_is_forward=case.predict_is_forward)


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


@pytest.mark.parametrize(
    "layer",
    [CNN, lf.max_pool2d(2), lf.relu(), lf.softmax(), lf.batch_norm(), lf.lp_pool2d(2, 2)],
    ids=lambda layer: layer.name[:20],
)
def test_layers_are_right_on_digits(layer, digits):
    check_layer(layer, layer.init(lf.Key(0), digits), digits)


def test_a_relu_is_right_on_a_kink_and_the_report_says_where():
    report = check_layer(lf.relu(), (), torch.tensor([-1.0, 0.0, 2.0]), all=True)
    assert report.is_right
    assert report.remarks == ("x lies on a kink at [1]",)
    assert report.findings[0].left_out == ((1,),)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_any_slope_between_those_around_is_right(slope):
    check_layer(mine(torch.relu, lambda x, g: g * torch.heaviside(x, 0 * x + slope)), (), ON_KINK)


ON_KINK = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 0.0, 1.0]])


def mine(function, dx):
    """Make a layer without parameters, whose cache is x."""
    return lf.Layer(
        "mine()", lambda params, x: (function(x), x), lambda params, x, g: (dx(x, g), ())
    )


def test_a_place_where_forward_is_smooth_is_judged_though_others_are_kinks():
    layer = mine(torch.clone, lambda x, g: g * (x != 0))
    with pytest.raises(GradientError, match=r"^mine\(\): dx is"):
        check_layer(layer, (), ON_KINK)


def test_a_mistake_is_seen_on_kinks():
    layer = mine(torch.relu, lambda x, g: 2 * g * (x > 0))
    with pytest.raises(GradientError, match=r"mine\(\): dx "):
        check_layer(layer, (), ON_KINK)


X = keys.normal(lf.Key(1), (5, 3))
WILD = {
    "a sigmoid of a thousand": (
        mine(lambda x: 1 / (1 + torch.exp(-x)),
        lambda x, g: g * torch.sigmoid(x) * torch.sigmoid(-x)),
        torch.tensor([-1000.0, 0.5, 1000.0])),
    "square roots near zero": (mine(torch.sqrt, lambda x, g: g / (2 * torch.sqrt(x))),
        torch.tensor([1e-12, 1e-6, 1.0])),
    "a square root of zero": (mine(torch.sqrt, lambda x, g: g / (2 * torch.sqrt(x))),
        torch.tensor([0.0, 4.0])),
    "tiny numbers": (lf.relu(), 1e-4 * keys.normal(lf.Key(2), (200, 100))),
    "two kinks that cancel": (
        mine(lambda x: torch.relu(x) - torch.relu(-x), lambda x, g: g * (x != 0)), ON_KINK),
}  # fmt: skip


@pytest.mark.parametrize("name", WILD)
def test_right_code_is_right_where_an_oracle_is_not(name):
    layer, x = WILD[name]
    check_layer(layer, (), x)


def from_numpy(x):
    return torch.from_numpy(np.tanh(x.detach().numpy()))


def by_buffer(x, g):
    dx = torch.zeros(x.shape)
    dx[x > 0] = g[x > 0].float()
    return dx


def cast_and_changed(x):
    low = x.float()
    return low.tanh_()


KERNEL = keys.normal(lf.Key(3), (3, 4))
LOW = {
    "a cast": (mine(lambda x: torch.tanh(x.float()), lambda x, g: g * (1 - torch.tanh(x) ** 2)),
        "float() makes float32: checked in float64"),
    "a cast, changed in place": (mine(cast_and_changed, lambda x, g: g * (1 - torch.tanh(x) ** 2)),
        "float() makes float32: checked in float64"),
    "bfloat16": (
        mine(lambda x: torch.tanh(x.bfloat16()).to(x.dtype),
        lambda x, g: g * (1 - torch.tanh(x) ** 2)),
        "bfloat16() makes bfloat16: checked in float64"),
    "a buffer": (mine(torch.relu, by_buffer), "zeros() makes float32: checked in float64"),
    "a fixed kernel": (mine(lambda x: x @ KERNEL, lambda x, g: g @ KERNEL.mT),
        "matmul() mixes float32 with float64: checked in float64"),
    "a part detached": (
        mine(lambda x: torch.tanh(x.detach()), lambda x, g: g * (1 - torch.tanh(x) ** 2)),
        "dx: autograd gives another value: does forward detach a part?"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOW)
def test_code_that_loses_digits_is_right_and_told_so(name):
    layer, remark = LOW[name]
    check_layer(layer, (), X)
    report = check_layer(layer, (), X, all=True)
    assert report.is_right
    assert remark in report.remarks


def test_a_mistake_beside_a_fixed_kernel_is_named():
    layer = mine(lambda x: x @ KERNEL, lambda x, g: -g @ KERNEL.mT)
    with pytest.raises(GradientError, match=r"^mine\(\): dx has the wrong sign$"):
        check_layer(layer, (), X)


def test_code_that_takes_float32_only_is_told_what_it_is_given():
    def forward(x):
        if x.dtype != torch.float32:
            raise AssertionError
        return 2 * x

    report = check_layer(mine(forward, lambda x, g: 2 * g), (), X, all=True)
    told = "forward raised AssertionError (it takes float32, but the checker passes float64)"
    assert [str(mistake) for mistake in report.mistakes] == [f"mine(): {told}"]


def test_forward_may_run_in_inference_mode():
    @torch.inference_mode()
    def forward(params, x):
        y = torch.tanh(x)
        return y, y

    right = lf.Layer("mine()", forward, lambda params, y, g: (g * (1 - y * y), ()))
    assert check_layer(right, (), X, all=True).is_right
    with pytest.raises(GradientError, match=r"the derivative of the activation is missing$"):
        check_layer(right.replace(backward=lambda params, y, g: (g, ())), (), X)


def test_right_code_of_numpy_carries_no_remark():
    report = check_layer(
        mine(from_numpy, lambda x, g: g * (1 - torch.tanh(x) ** 2)), (), X, all=True
    )
    assert (report.is_right, report.remarks) == (True, ())


def test_code_in_float32_of_numpy_cannot_be_judged():
    def forward(x):
        return torch.from_numpy(np.tanh(x.detach().numpy().astype(np.float32)))

    report = check_layer(mine(forward, lambda x, g: g * (1 - torch.tanh(x) ** 2)), (), X, all=True)
    assert [finding.verdict for finding in report.findings] == ["not judged"]
    assert "dx cannot be judged: the oracles see too few digits, or nan" in report.remarks


def rounded_without_grad(x):
    with torch.no_grad():
        step = x.round() - x
    return x + step


DETACHED = {
    "detach": (lambda x: x + (x.round() - x).detach(), lambda x, g: 1 * g),
    "data": (lambda x: x + (x.round() - x).data, lambda x, g: 1 * g),
    "no_grad": (rounded_without_grad, lambda x, g: 1 * g),
    "a factor": (lambda x: x * x.data, lambda x, g: x * g),
}


@pytest.mark.parametrize("how", DETACHED)
def test_a_detached_part_is_told_and_no_alarm(how):
    report = check_layer(mine(*DETACHED[how]), (), X, all=True)
    assert [finding.verdict for finding in report.findings] == ["not judged"]
    why = "forward detaches a part, and autograd and differences disagree"
    assert report.remarks == (f"dx cannot be judged: {why}",)


@pytest.mark.parametrize("how", DETACHED)
def test_a_mistake_beside_a_detached_part_is_wrong(how):
    layer = mine(DETACHED[how][0], lambda x, g: 3 * g)
    assert check_layer(layer, (), X, all=True).verdict == "wrong"


def test_an_infinite_output_cannot_be_judged():
    report = check_layer(mine(torch.exp, lambda x, g: g * torch.exp(x)), (), 1e4 * X, all=True)
    assert [finding.verdict for finding in report.findings] == ["not judged"]
    assert report.remarks == ("y is infinite for these numbers: take smaller ones",)


def test_an_output_that_is_nan_is_wrong():
    layer = mine(lambda x: torch.exp(x) / torch.exp(x), lambda x, g: 0 * g)
    (mistake,) = check_layer(layer, (), 1e4 * X, all=True).mistakes
    assert mistake.leaf == "forward"
    assert "y holds" in str(mistake)


def test_a_variance_below_the_least_one_is_no_alarm():
    loss = lf.losses.gaussian_nll(full=True, eps=0.1)
    prediction = (X, torch.full((5, 3), 1e-4))
    assert check_loss(loss, prediction, torch.zeros(5, 3), all=True).is_right


@pytest.mark.parametrize("layer", [lf.lp_pool1d(3, 2), lf.lp_pool1d(1.5, 2)], ids=str)
def test_a_layer_that_refuses_negative_numbers_is_judged_at_zero(layer):
    report = check_layer(layer, (), torch.zeros(2, 3, 6), all=True)
    assert [finding.verdict for finding in report.findings] == ["right"]


def test_a_wrong_gradient_in_low_precision_is_wrong():
    layer = mine(lambda x: torch.tanh(x.float()), lambda x, g: g)
    with pytest.raises(GradientError, match="derivative of the activation is missing"):
        check_layer(layer, (), X)


@pytest.mark.parametrize(
    "case", [case for case in CASES[::40] if case.note != "a single row"], ids=str
)
def test_a_batch_of_one_is_right(case):
    if isinstance(case.x, torch.Tensor) and case.x.ndim > 1 and case.x.is_floating_point():
        x = case.x[:1]
        check_layer(case.layer, case.layer.init(lf.Key(0), x), x, predict_is_forward=False)


def test_steps_fit_the_scale_of_each_place():
    x = torch.tensor([1e-8, 1.0, 1e6], dtype=torch.float64)
    check_layer(mine(torch.log, lambda x, g: g / x), (), x)
