"""The noise scale, held against the gradients of single examples."""

import itertools
import math

import pytest
import torch
from helpers import begin, same_number
from helpers.cases.case import cast
from helpers.one_by_one import check_noise, example, one_by_one
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import keys, per_example

X = keys.normal(lf.Key(1), (6, 3))
LABELS = X.argmax(1)
NET = lf.serial(lf.dense(5), lf.tanh(), lf.layer_norm(), lf.dense(3))
LOSS = lf.losses.softmax_cross_entropy()


def measure(net, params, cache, g, **options):
    """Compute the gradient, and S and N of one batch."""
    gradient = per_example.noise_scale(**{"decay": 0.0, "reduction": "sum", **options})
    state = gradient.init(net, params)
    return gradient.compute(net, params, cache, g, state, lf.Key(0))


def test_the_estimates_have_no_bias():
    # All pairs that can be drawn from a population of four examples, with replacement.
    net = lf.dense(2)
    params, x = cast(net.init(lf.Key(2), X)), X[:4].double()
    g = keys.normal(lf.Key(3), (4, 2), dtype=torch.float64)

    def of(rows):
        return measure(net, params, net.forward(params, x[rows])[1], g[rows])[1]

    pairs = [of(list(pair)) for pair in itertools.product(range(4), repeat=2)]
    h = per_example.gradients(net, params, net.forward(params, x)[1], g)
    for i, leaf in enumerate(lf.tree.leaves(h)):
        mean = leaf.mean(0)
        signal, noise = (
            torch.stack([getattr(pair, name)[i] for pair in pairs]).mean()
            for name in ("signal", "noise")
        )
        assert same_number((signal, noise), (mean.square().sum(), (leaf - mean).square().sum() / 4))


TOKENS = torch.tensor([[4, 2, 0, 1, 2], [3, 1, 5, 2, 2], [1, 1, 0, 0, 4]])
WIDE = lf.serial(lf.dense(300), lf.tanh(), lf.dense(200))
NETWORKS = {
    "few rows": (WIDE, X),
    "many rows": (WIDE, keys.normal(lf.Key(2), (4, 9, 6))),
    "a table of few rows": (lf.embedding(6, 3), TOKENS),
    "a large table": (lf.embedding(900, 3), TOKENS),
    "tied": (lf.tied(lf.embedding(6, 2), lf.serial(lf.dense(7), lf.dense(2))), TOKENS),
    "shared": (lf.shared(lf.dense(3)), (X, 2 * X.flip(0))),
    "frozen": (lf.serial(lf.dense(4), lf.frozen(lf.dense(3)), lf.dense(2)), X),
}


@pytest.mark.parametrize("at_once", [1, 2**22])
@pytest.mark.parametrize("name", NETWORKS)
def test_examples_together_and_one_after_the_other(name, at_once, monkeypatch):
    monkeypatch.setattr("lincoln_fn.per_example.forms._AT_ONCE", at_once)
    net, x = NETWORKS[name]
    params, cache, g = example(net, x, 4)
    check_noise(net, params, cache, g, one_by_one(net, params, cache, g))


def of_loss(reduction, rows=slice(None)):
    loss = lf.losses.softmax_cross_entropy(reduction=reduction)
    params = NET.init(lf.Key(2), X)
    prediction, cache = NET.forward(params, X[rows])
    g = loss.backward(loss.forward(prediction, LABELS[rows])[1])
    return measure(NET, params, cache, g, reduction=reduction)[1]


def test_a_mean_and_a_sum_have_the_same_scale():
    assert same_number(of_loss("mean"), of_loss("sum"))


def run(gradient, batches, **options):
    first = NET.init(lf.Key(2), X)
    step, state = begin(NET, X, LOSS, lf.optim.sgd(0.0), gradient=gradient, params=first, **options)
    return list(per_example.with_noise(lf.train(step, state, batches)))


def test_a_run_says_its_scales_by_path():
    sizes = [slice(0, 6), slice(0, 4), slice(1, 3)]
    steps = run(per_example.noise_scale(0.75), [(X[rows], LABELS[rows]) for rows in sizes])
    names = ["0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"]
    signal, noise = torch.zeros(6), torch.zeros(6)
    for (state, record), rows in zip(steps, sizes, strict=True):
        alone = of_loss("mean", rows)
        signal = 0.75 * signal + 0.25 * alone.signal
        noise = 0.75 * noise + 0.25 * alone.noise
        assert same_number(state.gradient_state.noise, noise)
        assert list(record.noise) == names == lf.tree.paths(state.params)
        assert len(record.noise) == 6
        for path, at in (
            ("0.bias", [1]), ("0", [0, 1]), ("2", [2, 3]), ("", [*range(6)]), ("*.bias", [1, 3, 5])
        ):  # fmt: skip
            expected = noise[at].sum().item() / signal[at].sum().item()
            assert math.isclose(record.noise[path], expected, rel_tol=1e-3)
            assert path in record.noise
        assert "1" not in record.noise
    assert [record.step for _, record in steps] == [1, 2, 3]
    assert steps[0][1].loss > 0


@pytest.mark.parametrize(
    ("signal", "noise", "scale"), [(0.0, 2.0, math.inf), (-1.0, 2.0, -2.0), (4.0, 2.0, 0.5)]
)
def test_a_scale_without_a_signal(signal, noise, scale):
    assert per_example.NoiseScales({"weight": signal}, {"weight": noise})[""] == scale
    assert math.isnan(per_example.NoiseScales({"weight": 0.0}, {"weight": 0.0})[""])


def test_a_step_with_donate_measures_the_same():
    batches = [(X, LABELS)] * 4
    plain, donated = (run(per_example.noise_scale(), batches, donate=d) for d in (False, True))
    assert dict(plain[-1][1].noise) == dict(donated[-1][1].noise)


def test_a_record_keeps_its_noise_in_a_stream_around_it(tmp_path):
    steps = run(per_example.noise_scale(), [(X, LABELS)] * 2)
    logged = lf.streams.logged(steps, tmp_path / "log.csv")
    assert [record.noise[""] for _, record in logged] == [r.noise[""] for _, r in steps]


def take(net, loss=LOSS, kept=None, **options):
    """Take one step."""
    step, state = begin(net, X, loss, gradient=per_example.noise_scale(**options))
    return step(state if kept is None else lf.core.evolve(state, gradient_state=kept), (X, LABELS))


def without_noise():
    step, state = begin(NET, X, LOSS)
    return next(per_example.with_noise(lf.train(step, state, [(X, LABELS)])))


SCALES = per_example.NoiseScales({"0.weight": 1.0}, {"0.weight": 1.0})
BATCH_NORM = lf.serial(lf.dense(4), lf.batch_norm(), lf.dense(3))

test_what_has_no_noise_is_refused_by_name = refusals("""
per_example.noise_scale(1.5) -> ^noise_scale: expected decay
per_example.noise_scale(reduction='none') -> ^noise_scale: expected reduction
take(NET, reduction='sum') -> expected a loss with reduction='sum', got softmax_cross_entropy()
take(NET, kept=()) -> ^noise_scale: expected the state of noise_scale, got (); write init_state(
take(NET, lf.losses.nt_xent()) -> ^make_step: noise_scale(): expected
run(per_example.noise_scale(), [(X[:1], LABELS[:1])]) -> expected a batch of at least two examples
take(BATCH_NORM) -> ^serial[1] batch_norm(): expected a layer that
without_noise() -> ^with_noise: expected a state with noise, got gradient_state ()
next(per_example.with_noise([1])) -> ^with_noise: expected stream to give (state, record)
SCALES['0.bias'] -> ^noise: expected the path of parameters, ... got '0.bias'; there are '0.weight'
""")
