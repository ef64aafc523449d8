"""Constructors refuse what can never work: each argument of each of them, with nine bad values."""

import inspect
import math
import pickle
import re
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from helpers import CASES, first_run, normal, uniform
from helpers.constructors import CONSTRUCTORS
from helpers.initializers import ALL as INITIALIZERS
from helpers.losses import TABLE
from helpers.refusals import assert_says, refusals
from helpers.schedules import SCHEDULES
from helpers.sweep import OPTIMIZERS, OTHERS

import lincoln_fn as lf
from lincoln_fn import layers, losses, optim, schedules
from lincoln_fn.core.signatures import unbound
from lincoln_fn.errors import arguments

VALUES = [-1, 0, 2.5, math.inf, math.nan, "a", None, [], torch.ones(2)]


# What the tables make first by a constructor: its arguments are valid together.
MADE = [
    *(case.layer for case in CASES), *(row.loss("mean") for row in TABLE),
    *(loss for loss, _, _ in OTHERS), *OPTIMIZERS, *SCHEDULES, *INITIALIZERS,
]  # fmt: skip
SPECS = {made.spec.of: made.spec for made in reversed(MADE) if made.spec}
# From x, or from the first entry of a tuple.
EITHER = lf.Layer(
    "either()",
    lambda params, x: (x[0], True) if type(x) is tuple else (x, False),
    lambda params, is_tuple, g: ((g, None) if is_tuple else g, ()),
)
# By the argument's name, what one without a default is given in a constructor that makes no row, or
# by the constructor's and the argument's, where a row's fits too few inputs.
VALID = {
    "coupling net": lf.dense(4), "graph function": lambda v: v.exp(), "ode field": EITHER,
    "out_channels": 4, "kernel_size": 2, "layer": lf.dense(3), "hidden_size": 3,
    "embedding": lf.embedding(7, 3), "body": lf.tanh(), "optimizer": optim.sgd(0.1),
    "optimizers": {"": optim.sgd(0.1)}, "group": lf.distributed.alone(), "k": 2, "max_norm": 1.0,
    "max_value": 1.0, "decay": 0.9, "factor": 0.1, "nonlinearity": "relu",
    "max_position_embeddings": 9, "original_max_position_embeddings": 9,
    "short_factor": (1.0, 2.0), "long_factor": (3.0, 4.0),
}  # fmt: skip
# Arguments that another one needs.
BESIDE = {
    "upsample": [{"size": 4}, {"scale_factor": 2.0}],
    "fractional_max_pool2d": [{"output_size": 2}, {"output_ratio": 0.5}],
    "fractional_max_pool3d": [{"output_size": 2}, {"output_ratio": 0.5}],
    "optim.sgd": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    "optim.adagrad": [{}, {"lr_decay": 0.1}],
    "embedding": [{"padding_idx": None}],
    "clamp": [{"min": -1.0}, {"max": 9.0}],
}
# Valid where a layer's own cases have no fitting input.
INPUTS = {
    "dense": [normal(5, 4)],
    "permute": [normal(4), normal()],
    "unflatten": [normal(6, 4)],
    "flip": [normal(4)],
    "broadcast_to": [normal(1)],
    "select": [(normal(2, 3), normal(2, 3), normal(2, 3))],
    "local_response_norm": [0.1 * normal(2, 6, 5), torch.full((2, 6, 5), 1e4)],
    "upsample": [normal(1, 2, 3, 3)],
    "prelu": [normal(2, 3)],
    "coupling": [normal(5, 4)],
    "tied": [torch.tensor([[1, 2], [3, 4]])],
}
ROWS = uniform(5, 3, low=0.1, high=0.9)
PAIR = (normal(5, 3), normal(5, 3, seed=1))
OF_CLASSES = [(ROWS / ROWS.sum(1, keepdim=True), torch.tensor([0, 2, 1, 0, 2]))]
OF_TWO_CLASSES = [(ROWS[:, :2] / ROWS[:, :2].sum(1, keepdim=True), torch.tensor([0, 1, 1, 0, 1]))]
CLASSES_FIRST = [(rows.mT, target) for rows, target in OF_CLASSES]
OF_ELEMENTS = [(rows, (rows > 0.5).float()) for rows in (ROWS, ROWS[:, :2])]
# What has two classes, or its classes first, by loss; all else is in the tables.
TARGETS = {
    "linear_cross_entropy": [((ROWS, normal(2, 3)), torch.tensor([0, 1, 1, 0, 1]))],
    "cross_entropy": [*OF_TWO_CLASSES, *CLASSES_FIRST],
    "nll": [(rows.log(), target) for rows, target in (*OF_TWO_CLASSES, *CLASSES_FIRST)],
}


def targets_of(name):
    """List a loss's predictions with their targets."""
    rows = [(row.prediction, row.target) for row in TABLE if row.name == name]
    others = [(x, target) for loss, x, target in OTHERS if loss.name.startswith(f"{name}(")]
    generic = [*OF_CLASSES, *OF_TWO_CLASSES, *OF_ELEMENTS]
    return [*TARGETS.get(name, ()), *rows, *others, *generic]


class UnfitError(Exception):
    """An accepted argument that no input fits: the library said so."""


def parameters_of(name):
    return inspect.signature(CONSTRUCTORS[name]).parameters.values()


def valid(name, beside, but):
    """List arguments that the constructor takes, without one of them."""
    given, options = [], dict(beside)
    for parameter in parameters_of(name):
        if parameter.name == but or parameter.default is not parameter.empty:
            continue
        spec = SPECS.get(CONSTRUCTORS[name])
        value = VALID.get(parameter.name) if spec is None else spec[parameter.name]
        value = VALID.get(f"{name} {parameter.name}", value)
        assert value is not None, f"say in VALID what {parameter.name} of {name} may be"
        if parameter.kind is parameter.VAR_POSITIONAL:
            given += value
        else:
            options.setdefault(parameter.name, value)
    options.pop(but, None)
    return given, options


def make(name, beside, parameter, value):
    """Call a constructor with one argument of our choice."""
    given, options = valid(name, beside, parameter.name)
    if parameter.kind is parameter.VAR_POSITIONAL:
        given = [*given, value]
    else:
        options[parameter.name] = value
    if any(
        each.kind is each.VAR_POSITIONAL for each in parameters_of(name)
    ):  # those before it are given by position, too
        ordered = [p.name for p in parameters_of(name) if p.kind is p.POSITIONAL_OR_KEYWORD]
        given = [*(options.pop(each) for each in ordered if each in options), *given]
    return CONSTRUCTORS[name](*given, **options)


@cache
def inputs_of(name):
    own = [case.x for case in CASES if case.layer.name.startswith(f"{name}(")]
    images = [normal(2, 4, *(6,) * n) for n in (0, 1, 2, 3)]
    return (*INPUTS.get(name, ()), *own, *images, PAIR, torch.tensor([[1, 2, 0]]))


def use(name, made):
    """Use what was made, once: a layer and a loss there and back, an optimizer for two steps."""
    if isinstance(made, lf.Layer):
        return first_that_fits(run_layer, made, [(x,) for x in inputs_of(name)])
    if isinstance(made, lf.Loss):
        return first_that_fits(run_loss, made, targets_of(name.rpartition(".")[2]))
    if isinstance(made, optim.Transform):
        made = optim.chain(made, optim.sgd(0.1))
    if isinstance(made, lf.Optimizer):
        return run_optimizer(made)
    if isinstance(made, schedules.Schedule):
        rates = made(torch.tensor([0, 1, 2, 5, 30]))
        assert (rates >= 0).all(), rates
        return rates
    if isinstance(made, lf.initializers.Initializer):
        fans = lf.initializers.Fans(3, 4)
        shapes = [(4, 3), (4, 2, 3), (5,)]
        return first_that_fits(
            lambda it, shape: it.draw(lf.Key(0), shape, fans, torch.float32),
            made,
            [(shape,) for shape in shapes],
        )
    if isinstance(made, lf.rope_scaling.RopeScaling):
        n = 2 * len(VALID["short_factor"])
        return made.frequencies(1e4, n, torch.tensor(20.0)) * made.attention_factor
    if isinstance(made, float):
        return made
    x = normal(6, 9)
    targets = torch.arange(6), torch.arange(9) % 6  # of classes on either axis
    return first_that_fits(lambda metric, *pair: metric(*pair), made, [(x, t) for t in targets])


def first_that_fits(run, made, candidates):
    errors = []
    for candidate in candidates:
        try:
            result = run(made, *candidate)
        except (lf.LayerError, ValueError) as error:
            if not is_own(error):
                raise
            errors.append(str(error))
            continue
        leaves = [leaf for leaf in lf.tree.leaves(result) if isinstance(leaf, torch.Tensor)]
        if not any(leaf.isnan().any() for leaf in leaves):
            return result
        errors.append("gave nan")
    raise UnfitError(f"{made}: {errors}")


def run_layer(layer, x):
    params, y, cache = first_run(layer, x)
    g = lf.tree.map(torch.ones_like, y)
    if isinstance(y, tuple) and len(y) == 2 and not y[1].is_floating_point():
        g = (torch.ones_like(y[0]), None)  # the places that pooling returns
    layer.predict(params, x)
    return y, layer.backward(params, cache, g), layer.advance(params, cache)


def run_loss(loss, prediction, target):
    value, cache = loss.forward(prediction, target)
    return value, loss.backward(cache, torch.ones_like(value))


def run_optimizer(optimizer):
    params = (normal(4, 3), normal(2, 5))
    state = optimizer.init(params)
    for seed in range(2):
        grads = (normal(4, 3, seed=seed), normal(2, 5, seed=seed))
        params, state = optimizer.update(params, grads, state)
    assert not any(leaf.isnan().any() for leaf in lf.tree.leaves(params))
    return params


def is_own(error, *words):
    """Tell whether an error is the library's: it says who expected what, and what it got."""
    text = str(error)
    said = re.match(r"(?s)[a-z0-9_]+(\[\d\])?.*: expected .*(got|for|by)", text) is not None
    return isinstance(error, ValueError) and said and all(word in text for word in words)


def outcome(name, beside, parameter, value):
    """Find what comes of an argument: refused, works, or what is wrong."""
    short = name.rpartition(".")[2]
    try:
        with warnings.catch_warnings():  # of what torch takes, too, and what rarely makes sense
            warnings.filterwarnings("ignore", rf"{short}: {parameter.name}\b", UserWarning)
            made = make(name, beside, parameter, value)
    except Exception as error:  # any: that is the question
        if is_own(error, parameter.name) and str(error).startswith(f"{short}: "):
            return "refused", ""
        return "raw error", f"{type(error).__name__}: {error}"
    try:
        use(name, made)
    except Exception as error:
        return "does not work", f"{type(error).__name__}: {error}"
    return "works", ""


def swept(name):
    """Try every value for every argument of a constructor."""
    return [
        (parameter.name, value, *outcome(name, beside, parameter, value))
        for parameter in parameters_of(name)
        for beside in BESIDE.get(name, [{}])
        for value in VALUES
    ]


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_an_argument_is_refused_by_name_or_works(name):
    wrong = [row for row in swept(name) if row[2] not in ("refused", "works")]
    assert not wrong, wrong


def test_the_sweep_reaches_every_constructor():
    tried = sum(
        len(parameters_of(name)) * len(BESIDE.get(name, [{}])) * len(VALUES)
        for name in CONSTRUCTORS
    )
    assert len(CONSTRUCTORS) >= 186
    assert tried >= 4_700
    unchecked = [name for name in CONSTRUCTORS if parameters_of(name) and not is_checked(name)]
    assert not unchecked


def is_checked(name):
    return hasattr(CONSTRUCTORS[name], "is_checked")


INF, NAN = math.inf, math.nan
WEIGHT = torch.tensor([1.0, -1.0])


test_the_error_says_what_was_expected_and_given = refusals("""
dense(0) -> ^dense: expected n_out of at least 1, got 0
dense(2.5) -> ^dense: expected n_out to be an int of at least 1, got 2.5
dense(True) -> ^dense: expected n_out to be an int of at least 1, got True
dense(3, bias=None) -> ^dense: expected bias to be True or False, got None
dense(3, weight_init=initializers.zeros) -> ^dense: expected weight_init to be an Initializer, got
    the constructor zeros; write zeros()
dropout(NAN) -> ^dropout: expected p to be a finite number from 0 to 1, got nan
conv2d(8, 'a') -> ^conv2d: expected kernel_size to be an int of at least 1 or a tuple of ints of at
    least 1, got 'a'
conv2d(8, 3, padding='full') -> ^conv2d: expected padding to be an int of at least 0, a tuple of
    ints of at least 0, 'same' or 'valid', got 'full'
conv2d(8, (3,)) -> ^conv2d: expected kernel_size as an int or a tuple of 2, got (3,)
serial(dense(3), relu) -> ^serial: expected layers[1] to be a Layer, got the constructor relu; write
    relu()
serial([dense(3)]) -> ^serial: expected layers[0] to be a Layer, got [dense(3)]; write lf.serial(
embedding(3, 2, dtype=torch.int64) -> ^embedding: expected dtype of floating numbers, got
    torch.int64
losses.nll(weight=WEIGHT) -> ^nll: expected weight of finite numbers of at least 0 or None, got
    float32[2]
losses.nll(weight=[1.0, 2.0]) -> ^nll: expected weight to be a tensor of a floating dtype, of 1
    axis, of finite numbers of at least 0 or None, got [1.0, 2.0]; convert it by torch.tensor
optim.sgd(INF) -> ^sgd: expected lr to be a finite number of at least 0 or a function, got inf
optim.sgd(schedules.cosine) -> ^sgd: expected lr to be a finite number of at least 0 or a function,
    got the constructor cosine; write cosine(...)
optim.adam(betas=(0.9, 1.0)) -> ^adam: expected betas[1] in [0, 1), got 1.0
optim.adam(betas=(0.9,)) -> ^adam: expected betas to be a tuple of 2 finite numbers in [0, 1), got
    (0.9,)
optim.muon(adjust_lr_fn='a') -> ^muon: expected adjust_lr_fn to be 'original', 'match_rms_adamw' or
    None, got 'a'
optim.rprop(step_sizes=(1.0, 0.5)) -> ^rprop: expected step_sizes that rise, got (1.0, 0.5)
optim.by_path({'w': 3}) -> ^by_path: expected optimizers['w'] to be an Optimizer, got 3
initializers.constant(NAN) -> ^constant: expected value to be a finite number, got nan
schedules.piecewise([], []) -> ^piecewise: expected lrs with at least one entry, got ()
schedules.linear(10 ** 400, 0.1, 3) -> ^linear: expected start to be a finite number of at least 0,
    got 1000000000000000000000000000
optim.sgd(nesterov=True) -> ^sgd: expected momentum and no dampening for nesterov, got (0.0, 0.0)$
flatten(2, 1) -> ^flatten: expected start_dim at or before end_dim, got (2, 1)
optim.rprop(etas=(1.5, 2)) -> ^rprop: expected etas below and above 1, got (1.5, 2)$
optim.chain() -> ^chain: expected transforms and then one optimizer, got ()$
optim.chain(optim.sgd(), optim.ema(0.5)) -> ^chain: expected transforms and then one optimizer, got
    (sgd(0.001), ema(0.5))$
losses.multi_margin(p=3) -> ^multi_margin: expected p to be 1 or 2, got 3$
losses.nll(weight=torch.ones(2, 2)) -> ^nll: expected weight of 1 axis or None, got float32[2, 2]$
losses.dpo(loss_type='ipo', label_smoothing=0.1) -> ^dpo: expected no label_smoothing for 'ipo', got
    0.1$
""")


# What is useful at its end, or is written in another way, is taken. By its call after it was read.
TAKEN = {
    "dense(3)": lambda: lf.dense(np.int64(3)),
    "dense(3, bias=False)": lambda: lf.dense(3, bias=np.bool_(False)),
    "dropout(p=0)": lambda: lf.dropout(0),
    "dropout(p=0.25)": lambda: lf.dropout(np.float32(0.25)),
    "conv2d(4, (3, 5))": lambda: lf.conv2d(4, [3, 5]),
    "conv2d(4, (3, 5), padding=1)": lambda: lf.conv2d(4, torch.Size((3, 5)), padding=1),
    "hardtanh(min_val=-inf)": lambda: lf.hardtanh(-INF),
    "constant_pad1d(1, -inf)": lambda: lf.constant_pad1d(1, -INF),
    "triplet_margin(p=inf)": lambda: losses.triplet_margin(p=INF),
    "sgd(0)": lambda: optim.sgd(0),
    "sgd(1)": lambda: optim.sgd(1),
    "adamw(0.1, weight_decay=0)": lambda: optim.adamw(0.1, weight_decay=0),
    "adam(0.1, betas=(0, 0.5))": lambda: optim.adam(0.1, [0, 0.5]),
    "sgd(cosine(0, 3))": lambda: optim.sgd(schedules.cosine(0, 3)),
    "clip_by_global_norm(inf)": lambda: optim.clip_by_global_norm(INF),
    "truncated_normal(1, low=-inf)": lambda: lf.initializers.truncated_normal(1, low=-INF),
    "normal(0)": lambda: lf.initializers.normal(0),
}


@pytest.mark.parametrize("call", TAKEN)
def test_what_is_useful_is_taken(call):
    assert str(TAKEN[call]()) == call


def test_weights_that_no_number_can_be_read_of_are_taken():
    weight = torch.ones(3, device="meta")
    assert str(losses.nll(weight=weight)) == "nll(weight=float32[3])"


def test_a_missing_or_unknown_argument_is_named_by_python():
    assert_says("TypeError: ^dense() missing 1 required positional argument: 'n_out'", lf.dense)
    with pytest.raises(TypeError, match=r"^dense\(\) got an unexpected keyword argument 'units'"):
        lf.dense(3, units=4)


def test_a_constructor_keeps_its_name_signature_and_docstring():
    assert (lf.dense.__name__, lf.dense.__module__) == ("dense", "lincoln_fn.layers.dense")
    assert list(inspect.signature(lf.dense).parameters)[:2] == ["n_out", "bias"]
    assert "n_out" in lf.dense.__doc__
    assert pickle.loads(pickle.dumps(lf.dense)) is lf.dense


def test_a_training_step_checks_no_hyperparameters(monkeypatch):
    net = lf.serial(lf.dense(4), lf.dropout(0.1), lf.batch_norm(), lf.dense(3))
    optimizer = optim.chain(optim.clip_by_value(1.0), optim.adam(schedules.cosine(0.1, 10)))
    step = lf.make_step(net, losses.softmax_cross_entropy(), optimizer)
    x, target = normal(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    calls = []
    monkeypatch.setattr(
        "lincoln_fn.errors.arguments.read", lambda *args: calls.append(args) or args[1]
    )
    for _ in range(2):
        state, _ = step(state, (x, target))
    assert not calls
    lf.dense(3)
    assert calls == [(arguments.PositiveInt, 3)]


def test_a_function_called_directly_has_the_constructors_defaults():
    x = normal(4, 3)
    assert torch.equal(layers.elu.forward((), x)[0], lf.elu().predict((), x))
    defaults = inspect.signature(layers.batch_norm.predict).parameters
    assert (defaults["eps"].default, defaults["momentum"].default) == (1e-5, 0.1)
    params = layers.batch_norm.Params(None, None, None)
    y, cache = layers.batch_norm.forward(params, x, eps=0.5)
    assert cache.momentum == 0.1
    assert torch.equal(y, lf.batch_norm(0.5).forward(params, x)[0])


def test_arguments_are_bound_to_the_functions_that_take_them():
    layer = lf.conv2d(4, 3, padding="same", bias=False)
    assert layer.forward.keywords["padding"] == "same"
    assert layer.init.keywords["kernel_size"] == (3, 3)  # as the constructor has bound it
    assert unbound(layer.backward) is layers.conv.backward
    assert optim.adamw(0.5).update.keywords["lr"] == 0.5  # of one that takes all of them


def test_one_function_makes_a_family_of_constructors():
    for n, made in enumerate((lf.conv1d, lf.conv2d, lf.conv3d), 1):
        assert (made.__name__, made.__module__) == (f"conv{n}d", "lincoln_fn.layers.conv")
        assert list(inspect.signature(made).parameters)[:2] == ["out_channels", "kernel_size"]
        assert str(made(4, (3,) * n, stride=2)) == f"conv{n}d(4, {(3,) * n}, stride=2)"
        assert pickle.loads(pickle.dumps(made)) is made
        assert_says(f"TypeError: ^conv{n}d() missing a required argument: 'kernel_size'", made, 4)


def test_entries_check_their_arguments_by_the_same_types():
    net, loss, optimizer = lf.dense(2), losses.mse(), optim.sgd(0.1)
    order = (
        "make_step: expected loss to be a Loss, got 3; the order is make_step(net, loss, optimizer)"
    )
    assert_says(f"^{order}$", lf.make_step, net, 3, optimizer)
    with pytest.raises(
        lf.LayerError, match=r"^fit: expected batch_size of at least 1 or None, got 0$"
    ):
        lf.fit(net, loss, optimizer, (ROWS, ROWS), key=lf.Key(0), batch_size=0)
    assert str(lf.map_layers(lf.frozen, net)) == "frozen(dense(2))"  # a constructor is a function
