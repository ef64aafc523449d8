"""`prove` takes functions of torch, modules, networks with their loss, and optimizers' adjoints."""

import functools
from fractions import Fraction

import pytest
import torch
from helpers import FIRST, assert_says, normal
from helpers.optimizers import ADJOINTS, params_for
from helpers.own import Cube
from torch import nn
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.testing import Proof, Refutation, digits, prove

X, IMAGE = normal(5, 3), normal(2, 3, 6, 5)


class WrongCube(Cube):
    """Its backward is half of what it should be."""

    @staticmethod
    def backward(ctx, g):
        return Cube.backward(ctx, g) / 2


MODULES = {
    "network": nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 2)),
    "silu": nn.SiLU(),
}
IMAGES = {
    "convolutions": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 4, 2, stride=2, groups=2), nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.Flatten(), nn.Linear(48, 2)),
    "pooling": nn.Sequential(nn.Conv2d(3, 4, 2, stride=2, groups=1), nn.MaxPool2d(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES | IMAGES)
def test_the_engine_is_proven_on_modules(name):
    module = (MODULES | IMAGES)[name]
    before = [leaf.clone() for leaf in (*module.parameters(), *module.buffers())]
    verdict = prove(module, X if name in MODULES else IMAGE)
    assert isinstance(verdict, Proof), str(verdict)
    of_params = [leaf for leaf in verdict.leaves if leaf.startswith("dparams")]
    assert len(of_params) == len([*module.parameters()])
    after = (*module.parameters(), *module.buffers())
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize(("function", "x"), [
    (F.gelu, X), (F.softplus, X), (functools.partial(torch.logsumexp, dim=1), X),
    (torch.matmul, (X, X.mT)), (torch.atan2, (X, X)),
], ids=["gelu", "softplus", "partial", "two", "missing"])  # fmt: skip
def test_the_engine_is_proven_on_functions(function, x):
    verdict = prove(function, x)
    if function is torch.atan2:
        assert "atan2.default has no rule" in verdict.reason
    else:
        assert verdict == Proof(verdict.name, verdict.leaves, ("backward is linear in g",))


def test_an_autograd_function_is_proven_or_refuted():
    assert prove(Cube, X) == Proof("Cube", ("dx",), ("backward is linear in g",))
    verdict = prove(WrongCube, X)
    assert isinstance(verdict, Refutation)
    assert "1/2 times the derivative" in str(verdict)


def test_an_autograd_function_within_a_module_is_held_against_its_forward():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            return WrongCube.apply(self.linear(x))

    verdict = prove(Wrong(), X)
    assert (verdict.name, verdict.times) == ("Wrong", Fraction(1, 2))


NET = lf.serial(lf.conv2d(3, 2), lf.batch_norm(), lf.gelu(), lf.flatten(), lf.dense(4))
LOSS = lf.losses.softmax_cross_entropy(label_smoothing=0.1)
LABELS = torch.tensor([0, 3])


@pytest.mark.full
def test_a_network_with_its_loss_is_proven():
    params = NET.init(lf.Key(0), IMAGE)
    verdict = prove((NET, LOSS), params, (IMAGE, LABELS), predict_is_forward=False)
    assert isinstance(verdict, Proof), str(verdict)
    wrong = lf.serial(*NET.parts[:-1], NET.parts[-1].replace(
        backward=lambda params, x, g: (g @ params.weight.mT, lf.evolve(
            params, weight=x.mT @ g, bias=g.mean(0))),
    ))  # fmt: skip
    verdict = prove((wrong, LOSS), params, (IMAGE, LABELS), predict_is_forward=False)
    assert verdict == Refutation(verdict.name, "dparams.0.4.bias", Fraction(1, 2))


def test_a_constructor_is_no_function_of_torch():
    for asked in prove, digits:
        assert_says(f"{asked.__name__}: expected subject ... Layer", asked, lf.relu, X)


SMALL = {"weight": normal(1, 2), "bias": normal(2, seed=1)}


@pytest.mark.full(but=("[sgd", "[adam(0.1, a"))
@pytest.mark.parametrize(
    "optimizer", ADJOINTS, ids=lambda optimizer: optimizer.name.partition(" at 0x")[0]
)
def test_an_adjoint_is_proven(optimizer):
    # The norm of a whole leaf takes all of its roots.
    verdict = prove(optimizer, SMALL if "lamb" in optimizer.name else params_for(optimizer))
    assert isinstance(verdict, Proof), str(verdict)


def with_terms(case):
    declared = lf.core.gradients_of(case.layer)
    return declared.terms is not None or declared.dx_and_terms is not None


@pytest.mark.full(but=("[dense(4)-", "[conv2d(4, 3)-2x3x5x6]", "[layer_norm()-", "[rnn(4)-"))
@pytest.mark.parametrize("case", [case for case in FIRST if with_terms(case)], ids=str)
def test_the_gradients_of_single_examples_add_up(case):
    verdict = prove(case.layer, case.params(), case.x, predict_is_forward=case.predict_is_forward)
    is_proven = "the sum of the gradients of single examples is grads" in verdict.also
    assert is_proven == (case.constructor != "cosine_similarities")  # whose rows are no examples


def test_terms_that_do_not_add_up_are_refused():
    def forward(params, x):
        return x * params, x

    def backward(params, x, g):
        return g * params, (g * x).sum(0)

    lf.declare(backward, terms=lambda params, x, g: lf.terms.Explicit(g * x * (1 + 1e-14)))
    verdict = prove(lf.Layer("scale()", forward, backward), torch.ones(3), X)
    told = "the sum of the gradients of single examples is not grads"
    assert verdict == Refutation("scale()", told)
