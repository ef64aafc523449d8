"""The checker's negative controls: impure and inconsistent layers, and wrong losses."""

import itertools
import re

import attrs
import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.testing import GradientError, check_layer, check_loss

X = lf.keys.normal(lf.Key(1), (5, 3))


def in_place(on, change):
    """Make a function that first changes one of its arguments in place."""

    def then(function):
        def call(*arguments):
            change(arguments[on])
            return function(*arguments)

        return call

    return then


def there_and_back(tensor):
    tensor.add_(1).sub_(1)


def add_to_bias(params):
    params.bias.add_(1)


def numbered(function):
    """Make a function of (number of the call, ...), which remembers how often it was called."""
    count = itertools.count(1)
    return lambda *arguments: function(next(count), *arguments)


def doubled_there(visit, params, x):
    y, cache = visit(0, params[0], x)
    return y.mul_(2), (cache,)


def doubled_back(visit, params, cache, g):
    dx, dparams = visit(0, params[0], cache[0], 2 * g)
    return dx, (dparams,)


RELU, DENSE = lf.relu(), lf.dense(4)
# A half that is replaced alone would make a backward of its own.
OWN = {"backward": DENSE.backward, "input_grad": DENSE.input_grad}

IMPURE = {
    "forward changes x": (RELU.replace(forward=in_place(1, torch.relu_)(RELU.forward)),
        "forward changed x in place"),
    "forward changes x and changes it back": (
        RELU.replace(forward=in_place(1, there_and_back)(RELU.forward)),
        "forward changed x in place"),
    "forward changes x behind the version counter": (
        RELU.replace(forward=in_place(1, lambda x: x.data.add_(1))(RELU.forward)),
        "forward changed x in place"),
    "forward changes x through numpy": (
        RELU.replace(forward=in_place(1, lambda x: x.detach().numpy().fill(0))(RELU.forward)),
        "forward changed x in place"),
    "forward changes params": (DENSE.replace(forward=in_place(0, add_to_bias)(DENSE.forward)),
        "forward changed params.bias in place"),
    "backward changes the cache": (
        lf.tanh().replace(backward=in_place(1, there_and_back)(lf.tanh().backward)),
        "backward changed cache in place"),
    "backward changes g": (RELU.replace(backward=in_place(2, torch.neg_)(RELU.backward)),
        "backward changed g in place"),
    "backward changes params": (DENSE.replace(backward=in_place(0, add_to_bias)(DENSE.backward)),
        "backward changed params.bias in place"),
    "grads changes g": (DENSE.replace(**OWN, grads=in_place(2, torch.neg_)(DENSE.grads)),
        "grads changed g in place"),
    "advance changes params": (DENSE.replace(advance=in_place(0, add_to_bias)(DENSE.advance)),
        "advance changed params.bias in place"),
    "a second forward differs": (lf.Layer("mine()", numbered(lambda n, params, x: (n * x, n)),
        lambda params, n, g: (n * g, ())), "a second forward gives something else"),
    "a second backward differs": (
        RELU.replace(backward=numbered(lambda n, params, y, g: (n * g * (y > 0), ()))),
        "a second backward gives something else"),
    "backward empties the cache": (lf.Layer(
            "mine()", lambda params, x: (x * x, [x]), lambda params, xs, g: (2 * g * xs.pop(), ())),
        "a second backward raised IndexError: pop from empty list: does backward change its cache?",
    ),
    "grads differs": (
        DENSE.replace(**OWN, grads=lambda params, cache, g: lf.tree.map(torch.zeros_like, params)),
        "grads differs from backward(...)[1]"),
    "grads of another structure": (DENSE.replace(**OWN, grads=lambda params, cache, g: ()),
        "grads differs from backward(...)[1]"),
    "input_grad differs": (
        RELU.replace(backward=RELU.backward, input_grad=lambda params, cache, g: 2 * g),
        "input_grad differs from backward(...)[0]"),
    "input_grad changes g": (
        RELU.replace(backward=RELU.backward, input_grad=in_place(2, torch.neg_)(RELU.input_grad)),
        "input_grad changed g in place"),
    "predict differs": (DENSE.replace(predict=lambda params, x: x @ params.weight),
        "predict differs from forward"),
    "advance changes what is trained": (
        DENSE.replace(advance=lambda params, cache: lf.tree.map(torch.neg, params)),
        "advance changes trained parameters"),
    "a part changes what the part before has cached": (
        lf.serial(lf.tanh(), RELU.replace(forward=in_place(1, there_and_back)(RELU.forward))),
        "serial[1] relu(): forward changed x in place, which others hold, too; "
        "make a new tensor, such as x * 2 for x.mul_(2)"),
    "a part changes the g of another": (
        lf.serial(lf.residual(RELU.replace(backward=in_place(2, torch.neg_)(RELU.backward))),
        lf.tanh()),
        "serial[0] residual[0] relu(): backward changed g in place, which others hold, too; "
        "make a new tensor, such as x * 2 for x.mul_(2)"),
    "a loop changes a part's cache": (
        lf.walk.composition("doubled", (lf.tanh(),), doubled_there, doubled_back),
        "0 tanh(): its cache was changed in place between forward and backward; "
        "make a new tensor, such as y * 2 for y.mul_(2)"),
    "advance changes the structure": (DENSE.replace(advance=lambda params, cache: (params,)),
        "advance returns params of another structure"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPURE)
def test_impure_layers_are_caught_and_named(name):
    layer, message = IMPURE[name]
    with pytest.raises(GradientError, match=f"^{re.escape(f'{layer.name}: {message}')}$"):
        check_layer(layer, layer.init(lf.Key(0), X), X)


class Keeping:
    """A tanh that keeps its output in itself, where a second use overwrites it."""

    def forward(self, params, x):
        self.y = torch.tanh(x)
        return self.y, ()

    def backward(self, params, cache, g):
        return g * (1 - self.y**2), ()


class Overwriting:
    """A tanh whose cache is one tensor for all calls."""

    def __init__(self):
        self.y = torch.zeros(5, 3, dtype=torch.float64)

    def forward(self, params, x):
        self.y.copy_(torch.tanh(x))
        return self.y.clone(), self.y

    def backward(self, params, y, g):
        return g * (1 - y**2), ()


@pytest.mark.parametrize(("kind", "x", "told"), [
    (Keeping, X, "backward reads what forward kept outside of the cache"),
    (Keeping, X[:2], "backward reads what forward kept outside of the cache"),
    (Overwriting, X, "a further forward changed cache in place"),
])  # fmt: skip
def test_what_forward_keeps_outside_of_the_cache_is_told(kind, x, told):
    tanh = kind()
    layer = lf.Layer("mine()", tanh.forward, tanh.backward)
    with pytest.raises(GradientError, match=rf"^mine\(\): {told}$"):
        check_layer(layer, (), x)
    assert [*map(str, check_layer(layer, (), x, all=True).mistakes)] == [f"mine(): {told}"]


def test_a_predict_that_may_differ_is_let_pass():
    layer = DENSE.replace(predict=lambda params, x: x @ params.weight)
    check_layer(layer, layer.init(lf.Key(0), X), X, predict_is_forward=False)


PROBABILITIES = torch.softmax(X, 1)
LABELS = torch.tensor([0, 1, 2, 1, 0])
RIGHT = lf.losses.cross_entropy()


def of_nll(cache, g=1.0):
    nll = lf.losses.nll()
    return nll.backward(nll.forward(PROBABILITIES.double() - 1, LABELS)[1], g)


WRONG_LOSSES = {
    "another loss's": (of_nll, r"dx has the further factor x in the path through mean\(\)$"),
    "g ignored": (lambda cache, g=1.0: RIGHT.backward(cache),
        "dx forgets g: it is the gradient for g = 1$"),
    "another default of g": (lambda cache, g=2.0: RIGHT.backward(cache, g),
        r"backward\(cache\) differs from backward\(cache, g=1\)$"),
    "no default of g": (lambda cache, g: RIGHT.backward(cache, g),
        r"backward\(cache\) has no default of g; write def backward\(cache, g=1\.0\)$"),
    "shape": (lambda cache, g=1.0: RIGHT.backward(cache, g).mT,
        r"dx is transposed: shape \(3, 5\), expected \(5, 3\)$"),
}  # fmt: skip


@pytest.mark.full(but=("[another default", "[no default", "[shape]"))
@pytest.mark.parametrize(("backward", "message"), WRONG_LOSSES.values(), ids=WRONG_LOSSES)
def test_wrong_losses_are_caught_and_named(backward, message):
    loss = attrs.evolve(RIGHT, backward=backward)
    with pytest.raises(GradientError, match=rf"^cross_entropy\(\): {message}"):
        check_loss(loss, PROBABILITIES, LABELS)
