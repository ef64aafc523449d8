"""An expression as a layer: the gradient of every value, against torch's; named errors."""

import pickle

import torch
from helpers import first_run, largest, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn import keys

N, BLOCK, CODES, WIDTH, HIDDEN = 8, 3, 27, 5, 12


def makemore(index, targets, *, C, W1, b1, bngain, bnbias, W2, b2):  # noqa: N803  # Karpathy's
    """Compute the loss of Karpathy's exercise, with its names of the values between."""
    emb = C[index]
    embcat = emb.flatten(1)
    hprebn = embcat @ W1 + b1
    bnmeani = 1 / N * hprebn.sum(0, keepdim=True)
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = 1 / (N - 1) * bndiff2.sum(0, keepdim=True)
    bnvar_inv = (bnvar + 1e-5) ** -0.5
    bnraw = bndiff * bnvar_inv
    hpreact = bngain * bnraw + bnbias
    h = torch.tanh(hpreact)
    logits = h @ W2 + b2
    logit_maxes = logits.amax(1, keepdim=True)
    norm_logits = logits - logit_maxes
    counts = norm_logits.exp()
    counts_sum = counts.sum(1, keepdim=True)
    counts_sum_inv = counts_sum**-1
    probs = counts * counts_sum_inv
    logprobs = probs.log()
    loss = -logprobs.gather(1, targets).mean()
    return loss, locals()


SHAPES = {
    "C": (CODES, WIDTH), "W1": (BLOCK * WIDTH, HIDDEN), "b1": (HIDDEN,), "bngain": (1, HIDDEN),
    "bnbias": (1, HIDDEN), "W2": (HIDDEN, CODES), "b2": (CODES,),
}  # fmt: skip


def init(key, x):
    pairs = enumerate(SHAPES.items())
    return {
        name: keys.normal(key.fold_in(i), shape, dtype=torch.float64) for i, (name, shape) in pairs
    }


NET = lf.graph(makemore, init=init)
X = (
    (keys.uniform(lf.Key(1), (N, BLOCK)) * CODES).long(),
    (keys.uniform(lf.Key(2), (N, 1)) * CODES).long(),
)
PARAMS = NET.init(lf.Key(0), X)
VALUES = (
    *("C", "W1", "b1", "bngain", "bnbias", "W2", "b2", "emb", "embcat", "hprebn", "bnmeani"),
    *("bndiff", "bndiff2", "bnvar", "bnvar_inv", "bnraw", "hpreact", "h", "logits", "logit_maxes"),
    *("norm_logits", "counts", "counts_sum", "counts_sum_inv", "probs", "logprobs"),
)


def test_the_26_gradients_of_makemore_are_torchs():
    given = {name: value.clone().requires_grad_() for name, value in PARAMS.items()}
    loss, values = makemore(*X, **given)  # the same function, of tensors
    expected = torch.autograd.grad(loss, [values[name] for name in VALUES])
    y, cache = NET.forward(PARAMS, X)
    found = lf.gradients_by_name(NET, PARAMS, cache, torch.ones_like(y))
    assert same_number(y, loss)
    assert len(VALUES) == 26
    for name, slope in zip(VALUES, expected, strict=True):
        assert same_number(found[name], slope, terms=largest(expected)), name
    dx, dparams = NET.backward(PARAMS, cache, torch.ones_like(y))
    assert dx == (None, None)
    assert same_bits(dparams, {name: found[name] for name in PARAMS})
    assert same_bits(NET.grads(PARAMS, cache, torch.ones_like(y)), dparams)


def attend(x, *, q, k):
    """Use values twice, tuples, and layers with params: a head of attention."""
    keys, values = (half := x.dense(6).split(3, dim=-1))[0], half[1]
    scores = (x @ q) @ keys.permute(0, 2, 1) / 2
    weights = scores.softmax(-1)
    return (1 - weights) @ values + (k * x).sum(-1, keepdim=True), weights


def drawn(key, x):
    n = x.shape[-1]
    return {"q": keys.normal(key, (n, 3)), "k": keys.normal(key.fold_in(1), (n,))}


def test_layers_with_params_have_them_by_name_and_are_drawn():
    net, x = lf.graph(attend, init=drawn), keys.normal(lf.Key(3), (2, 5, 4))
    params = net.init(lf.Key(0), x)
    assert {name: type(entry) for name, entry in params.items()} == {
        "q": torch.Tensor, "k": torch.Tensor, "dense": lf.layers.dense.Params,
    }  # fmt: skip
    assert params["dense"].weight.shape == (4, 6)
    lf.testing.check_layer(net, params, x)
    copy = pickle.loads(pickle.dumps(net))  # the plan is data, and the function is not needed
    assert str(copy) == "graph(attend)"
    y, cache = copy.forward(params, x)
    assert [leaf.shape for leaf in y] == [(2, 5, 3), (2, 5, 5)]
    assert same_bits(copy.grads(params, cache, y), net.backward(params, cache, y)[1])


def test_a_value_has_the_name_of_its_variable_or_of_its_layer():
    def named(x, *, w):
        h = same = x @ w
        return h.exp() + h.exp() + same, locals()

    parts = lf.graph(named).parts
    assert [part.name for part in parts] == [
        "w = parameter()", "h = matmul()", "exp = exp()", "exp_1 = exp()", "add = add()",
        "add_1 = add()",
    ]  # fmt: skip


def test_nothing_is_computed_before_the_first_parameter():
    def net_of(x, *, w):
        before = x.tanh()
        return before @ w, locals()

    net = lf.graph(net_of, init=lambda key, x: {"w": keys.normal(key, (x.shape[-1], 1))})
    x = keys.normal(lf.Key(6), (16, 3))
    params, y, cache = first_run(net, x)
    _, sites = lf.cotangents(net, params, cache, y, dx=False)
    assert [site.g is None for site in sites] == [True, False, False]
