"""Quantities of each example, computed alone."""

import torch

import lincoln_fn as lf
from helpers.cases.case import cast, random_like
from helpers.compare import largest, same_number


def with_leaves(params, leaves):
    """Put these in place of the leaves of params."""
    these = iter(leaves)
    return lf.tree.map(lambda _: next(these), params)


def of_example(n, count):
    """Keep example n of g; the state of a recurrent layer has the examples on axis 1."""

    def kept(leaf):
        axis = 0 if len(leaf) == count else 1
        index = torch.tensor([n])
        return torch.zeros_like(leaf).index_copy(axis, index, leaf.index_select(axis, index))

    return lambda g: lf.tree.map(kept, g)


def one_by_one(net, params, cache, g):
    """Compute the gradient of each example from a g that is zero for the others."""
    count = len(lf.tree.leaves(g)[0])
    each = [net.grads(params, cache, of_example(n, count)(g)) for n in range(count)]
    return lf.tree.map(lambda *leaves: torch.stack(leaves), *each)


def run_alone(net, params, x, g):
    """Compute the gradient of each example by a forward and a backward of that example alone."""
    count = len(lf.tree.leaves(g)[0])

    def alone(n):
        x_n, g_n = (lf.tree.map(lambda leaf: leaf[n : n + 1], tree) for tree in (x, g))
        return net.grads(params, net.forward(params, x_n)[1], g_n)

    return lf.tree.map(lambda *leaves: torch.stack(leaves), *map(alone, range(count)))


def norms_of(each):
    return sum(leaf.reshape(len(leaf), -1).square().sum(1) for leaf in lf.tree.leaves(each))


def check(net, params, cache, g, each):
    """Hold every quantity against the gradients of single examples."""
    given = net, params, cache, g
    count = len(lf.tree.leaves(g)[0])
    weights = torch.linspace(-0.5, 2, count, dtype=torch.float64)

    def mean_of(f):
        return lf.tree.map(lambda d: f(d).mean(0), each)

    assert same_number(lf.per_example.gradients(*given), each)
    assert same_number(lf.per_example.squared_norms(*given), norms_of(each))
    flat = torch.cat([leaf.reshape(count, -1) for leaf in lf.tree.leaves(each)], 1)
    pairs, sizes = flat @ flat.mT, (flat.abs() @ flat.abs().mT)
    assert same_number(lf.per_example.gram(*given), pairs, terms=largest(sizes))
    weighted = lf.tree.map(lambda d: torch.einsum("n,n...->...", weights, d), each)
    assert same_number(lf.per_example.weighted_sum(*given, weights), weighted)
    assert same_number(lf.per_example.second_moment(*given), mean_of(torch.square))
    variance, terms = mean_of(lambda d: (d - d.mean(0)).square()), mean_of(torch.square)
    sizes = lf.tree.map(largest, terms, states=True)
    assert same_number(lf.per_example.variance(*given), variance, terms=sizes)
    if count > 1:
        check_noise(*given, each)


def check_noise(net, params, cache, g, each):
    """Hold a gradient and the S and N of one batch against the gradients of single examples."""
    gradient = lf.per_example.noise_scale(decay=0.0, reduction="sum")
    state = gradient.init(net, params)
    dparams, state = gradient.compute(net, params, cache, g, state, lf.Key(0))
    assert same_number(dparams, lf.tree.map(lambda d: d.sum(0), each))
    leaves = [h.reshape(len(h), -1) for h in lf.tree.leaves(each)]
    count = len(leaves[0])
    # The unbiased variance of h_n, and the squared mean without that of the mean.
    noise = torch.stack([h.var(0).sum() for h in leaves])
    means = torch.stack([h.mean(0).square().sum() for h in leaves])
    terms = largest(means) + largest(noise)
    assert same_number((state.signal, state.noise), (means - noise / count, noise), terms=terms)


def example(net, x, seed=5):
    """Make params and g of a network in float64, and run it forward."""
    params = cast(net.init(lf.Key(seed), x))
    y, cache = net.forward(params, cast(x))
    return params, cache, random_like(y)
