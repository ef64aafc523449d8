"""What a layer, a loss and an optimizer know of themselves: their constructor and its arguments."""

import pickle

import pytest
from helpers import CASES, FIRST

import lincoln_fn as lf
from lincoln_fn.combine.transformer import transformer_encoder_block
from lincoln_fn.core.spec import call_of, made_by
from lincoln_fn.errors.arguments import call_with


def test_the_arguments_are_those_of_the_call_and_the_defaults():
    layer = lf.elu(0.5)
    assert layer.spec.of is lf.elu
    assert (layer.spec["alpha"], lf.elu().spec["alpha"]) == (0.5, 1.0)
    assert str(layer) == layer.spec == "elu(alpha=0.5)"
    assert lf.flip(0, 1).spec["dims"] == (0, 1)
    assert lf.losses.mse(reduction="sum").spec["reduction"] == "sum"
    assert lf.optim.adamw(0.1).spec["lr"] == 0.1


def test_a_composition_has_the_parts_that_it_has_now():
    inner, outer = lf.dense(3), lf.tanh()
    net = lf.serial(inner, lf.relu())
    assert net.spec["layers"] == net.parts
    net = net.rebuild((inner, outer))
    assert made_by(net, lf.serial)
    assert net.spec["layers"] == (inner, outer)
    assert lf.residual(inner).spec["shortcut"] is None
    assert lf.frozen(inner).spec["layer"] is inner


def test_a_block_keeps_its_constructor_with_other_parts():
    block = transformer_encoder_block(2, 8)
    changed = block.rebuild(tuple(lf.checkpointed(part) for part in block.parts))
    assert changed.spec is block.spec
    assert changed.spec["num_heads"] == 2


def test_another_function_is_not_what_the_constructor_makes():
    layer = lf.elu(0.5)
    assert layer.replace(name="mine()").spec is layer.spec
    assert layer.replace(init=lambda key, x: ()).spec is layer.spec
    for name in ("forward", "backward", "predict", "input_grad", "grads", "advance"):
        assert layer.replace(**{name: lambda *_: None}).spec is None, name
    own = layer.replace(backward=lambda *_: None, spec=call_of(lf.elu, 0.5))
    assert own.spec["alpha"] == 0.5


def test_what_is_made_by_hand_has_none():
    layer = lf.elu()
    assert lf.Layer(layer.name, layer.forward, layer.backward).spec is None
    assert lf.Loss("mine()", print, print).spec is None
    assert not made_by(lf.Layer("elu()", print, print), lf.elu)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_a_pickle_holds_it_and_its_call_makes_the_layer(case):
    spec, copy = case.layer.spec, pickle.loads(pickle.dumps(case.layer))
    assert (copy.name, copy.spec, copy.spec.of) == (case.layer.name, spec, spec.of)
    assert copy.spec.arguments.keys() == spec.arguments.keys()
    if spec.of is not lf.graph:
        made = call_with(spec.of, dict(spec.arguments))
        assert made.name == spec
        assert [type(part) for part in made.parts] == [type(part) for part in case.layer.parts]


def test_every_layer_of_the_tables_has_one():
    assert not {case.layer.name for case in CASES if case.layer.spec is None}
