"""Every layer's formula goes through torch.func: vmap, jvp and vjp of forward and of backward.

Per-example gradients and Hessian-vector products stand on this. Each transform's values are
compared with what they should be: vmap with a loop, a jvp with central differences, a vjp with the
jvp by their inner product.
"""

import pytest
import torch
from cases import CASES
from cases.case import cast
from compare import same_number
from torch import Tensor
from torch.func import jvp, vjp, vmap

import lincoln_fn as lf
from lincoln_fn import keys

# torch's own, at the first jvp of a process.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

STEP, LOOSE = 1e-6, 2e-5


def floating(tree):
    """List the floating tensors of a tree, and make the function that replaces them."""
    leaves, structure = torch.utils._pytree.tree_flatten(tree)
    tensors = [(i, leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    where = [i for i, leaf in tensors if leaf.is_floating_point()]

    def rebuilt(tensors):
        new = list(leaves)
        for i, tensor in zip(where, tensors, strict=True):
            new[i] = tensor
        return torch.utils._pytree.tree_unflatten(new, structure)

    return tuple(leaves[i] for i in where), rebuilt


def outputs(tree):
    return tuple(leaf for leaf in lf.tree.leaves(tree) if leaf.is_floating_point())


def random_like(tensors, seed):
    return tuple(
        keys.normal(lf.Key(seed + i), tuple(t.shape)).to(t.dtype) for i, t in enumerate(tensors)
    )


def inner(a, b):
    return sum((s * t).sum() for s, t in zip(a, b, strict=True))


def terms_of(a, b):
    return sum((s * t).abs().sum() for s, t in zip(a, b, strict=True))


def functions(case):
    """Make forward and backward of a case as functions of floating tensors, in float64."""
    params, x = cast(case.params()), cast(case.x)
    xs, rebuilt = floating(x)
    y, _ = case.layer.forward(params, x)
    gs, rebuilt_g = floating(y)

    def forward(*xs):
        return outputs(case.layer.forward(params, rebuilt(xs))[0])

    def backward(xs, gs):
        cache = case.layer.forward(params, rebuilt(xs))[1]
        return outputs(case.layer.backward(params, cache, rebuilt_g(gs)))

    return forward, backward, xs, random_like(gs, 50)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap(case):
    forward, backward, xs, gs = functions(case)
    stacked = tuple(torch.stack([x, x + 0.01]) for x in xs)
    one = forward(*xs), forward(*(x + 0.01 for x in xs))
    if xs:
        given = vmap(forward)(*stacked)
        assert same_number(tuple(y[0] for y in given), one[0])
        assert same_number(tuple(y[1] for y in given), one[1])
        given = vmap(backward, in_dims=(0, None))(stacked, gs)
        assert same_number(tuple(y[1] for y in given), backward(tuple(x + 0.01 for x in xs), gs))
    if gs:
        given = vmap(backward, in_dims=(None, 0))(xs, tuple(torch.stack([g, 2 * g]) for g in gs))
        assert same_number(tuple(y[0] for y in given), backward(xs, gs))
        assert same_number(tuple(y[1] for y in given), backward(xs, tuple(2 * g for g in gs)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_jvp_and_vjp_of_forward_and_backward(case):
    forward, backward, xs, gs = functions(case)
    if not xs:
        pytest.skip("no floating input to differentiate along")
    v, w = random_like(xs, 70), random_like(gs, 90)
    of_y, of_result = slopes(forward, backward, (xs, gs), (v, w))

    _, along = jvp(forward, xs, v)
    assert same_number(along, of_y, error=LOOSE)
    y, pull = vjp(forward, *xs)
    u = random_like(y, 110)
    assert same_number(inner(pull(u), v), inner(u, along), terms=terms_of(u, along))

    _, along = jvp(backward, (xs, gs), (v, w))
    assert same_number(along, of_result, error=LOOSE)
    result, pull = vjp(backward, xs, gs)
    u = random_like(result, 130)
    dxs, dgs = pull(u)
    total = inner(dxs, v) + inner(dgs, w)
    assert same_number(total, inner(u, along), terms=terms_of(u, along))


def slopes(forward, backward, at, along):
    """Give the central differences of y and of backward's result."""
    (xs, gs), (v, w), made = at, along, []
    for step in (STEP, -STEP):
        points = tuple(x + step * d for x, d in zip(xs, v, strict=True))
        cotangents = tuple(g + step * d for g, d in zip(gs, w, strict=True))
        made.append((forward(*points), backward(points, cotangents)))
    return [
        tuple((a - b) / (2 * STEP) for a, b in zip(ahead, behind, strict=True))
        for ahead, behind in zip(*made, strict=True)
    ]
