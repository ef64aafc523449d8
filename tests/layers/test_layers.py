"""Every layer of the table: gradients proven, and torch's module of the same weights agrees."""

import pkgutil

import pytest
import torch
from helpers import cast, largest, names_of, run, same_number
from helpers.cases import CASES, FIRST, activations, attention, graphs

import lincoln_fn as lf
from lincoln_fn import keys, layers


def leaves_that_float(tree):
    return [leaf for leaf in lf.tree.leaves(tree) if leaf.is_floating_point()]


def has_few_params(case):
    return len(lf.tree.leaves(case.params())) < 12


# The other configurations have torch's answer below; testing/test_prove.py proves every one.
ALONE = [case for case in CASES if not case.torch and has_few_params(case)]
LARGE = [pytest.param(case, marks=pytest.mark.full) for case in FIRST if not has_few_params(case)]
CHECKED = dict.fromkeys([*filter(has_few_params, FIRST), *ALONE])


@pytest.mark.whole
@pytest.mark.parametrize("case", [*CHECKED, *LARGE], ids=str)
def test_gradients_are_proven(case):
    lf.testing.check_layer(
        case.layer, case.params(), case.x, predict_is_forward=case.predict_is_forward
    )


@pytest.mark.whole
@pytest.mark.parametrize("case", [case for case in CASES if case.torch], ids=str)
def test_agrees_with_torch_in_float32(case):
    params = case.params()
    y, cache = case.layer.forward(params, case.x)
    g = lf.tree.map(lambda leaf: keys.normal(lf.Key(5), tuple(leaf.shape)), y)
    dx, dparams = case.layer.backward(params, cache, g)

    both = lf.tree.map(
        lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), (params, case.x)
    )
    expected = case.torch(*both)
    assert same_number(lf.tree.leaves(y), lf.tree.leaves(expected), dtype=torch.float32)
    pairs = zip(lf.tree.leaves(g), lf.tree.leaves(y), strict=True)
    gs = [leaf for leaf, of in pairs if of.is_floating_point()]
    gradients = torch.autograd.grad(
        leaves_that_float(expected), leaves_that_float(both), gs, materialize_grads=True
    )
    given = lf.tree.leaves((dparams, dx))
    assert same_number(given, list(gradients), terms=largest(g), dtype=torch.float32)


FAMILIES = activations, attention, graphs
PRECISE = [case for family in FAMILIES for case in family.CASES if case.torch]


@pytest.mark.whole
@pytest.mark.parametrize(
    "case", [case for case in PRECISE if case.predict_is_forward is not False], ids=str
)
def test_agrees_with_torch_in_float64(case):
    """In float32, a constant that is a little off would pass as rounding."""
    params, x = cast((case.params(), case.x))
    y, expected = case.layer.predict(params, x), case.torch(params, x)
    assert same_number(lf.tree.leaves(y), lf.tree.leaves(expected))


def test_every_layer_is_in_the_table():
    modules = {module.name for module in pkgutil.iter_modules(layers.__path__) if not module.ispkg}
    made_by = {case.layer.spec.of.__module__ for case in CASES if case.layer.spec}
    assert modules <= {module.removeprefix("lincoln_fn.layers.") for module in made_by}


@pytest.mark.parametrize("layer", [lf.bias(), lf.class_token()], ids=str)
def test_rows_without_features(layer):
    x = torch.zeros(5, 0)
    params = layer.init(lf.Key(0), x)
    _, dx, dparams = run(layer, params, x, torch.ones_like)
    assert (dx.shape, [leaf.shape for leaf in lf.tree.leaves(dparams)]) == (x.shape, [(0,)])


# Names show what differs from the default; test_declaration.py makes each case's layer by its spec.
@pytest.mark.parametrize("name", [
    "instance_norm(eps=0.001, momentum=0.2, affine=True, track_running_stats=True)",
    "layer_norm((4, 3), eps=0.1, elementwise_affine=False, bias=False)", "conv2d(8, 3)",
    "conv3d(8, (1, 2, 3), padding='same', dilation=2, groups=2, bias=False, "
    "padding_mode='circular')",
    "multi_head_attention(4, weight_init=zeros(), output_weight_init=zeros(), bias_init=ones())",
    "with_context(multiply(), select(0))", "branch(dense(4), tanh(), merge=concatenate(dim=1))",
    "fixed_point(rnn_cell(4), shape=(4,), solver='iteration', max_steps=5, tol=0.0, memory=2)",
    "reversible(*[(dense(3), tanh())] * 3)", "residual(dense(4), tanh())",
])  # fmt: skip
def test_a_name_makes_the_layer_again(name):
    assert repr(eval(name, names_of(lf) | names_of(lf.initializers))) == name
