"""Compare derivatives by torch.func and by autograd with central differences."""

import torch

from helpers.cases.case import random_like
from helpers.compare import same_number

STEP = 1e-6
# Of central differences in float64: they are of 1e-6, and lose half of the digits.
LOOSE = 2e-5


def floating(tree):
    """List the floating tensors of a tree, and make the function that replaces them."""
    leaves, structure = torch.utils._pytree.tree_flatten(tree)
    tensors = [(i, leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    where = [i for i, leaf in tensors if leaf.is_floating_point()]

    def rebuilt(tensors):
        new = list(leaves)
        for i, tensor in zip(where, tensors, strict=True):
            new[i] = tensor
        return torch.utils._pytree.tree_unflatten(new, structure)

    return tuple(leaves[i] for i in where), rebuilt


def inner(a, b):
    """Compute the sum of the products of two lists of tensors."""
    return sum((s * t).sum() for s, t in zip(a, b, strict=True))


def same_derivative(given, expected, error):
    """Compare lists of tensors, where the terms of a sum that cancels are of size 1."""
    expected = tuple(wanted.to(ours.dtype) for ours, wanted in zip(given, expected, strict=True))
    sizes = tuple(
        wanted.new_tensor(max(1.0, wanted.abs().max().item()) if wanted.numel() else 1.0)
        for wanted in expected
    )
    return same_number(tuple(given), expected, terms=sizes, error=error)


def flat(f, *trees):
    """Make f a function from the floating tensors of its arguments to those of its result."""
    xs, rebuilt = floating(trees)
    return xs, lambda *xs: floating(f(*rebuilt(xs)))[0]


def slopes(f, xs, along):
    """Give the central differences of f."""
    ahead, behind = (
        f(*(x + step * d for x, d in zip(xs, along, strict=True))) for step in (STEP, -STEP)
    )
    return tuple((a - b) / (2 * STEP) for a, b in zip(ahead, behind, strict=True))


def backwards(f, xs, u):
    """Pull u back by autograd."""
    watched = [x.clone().requires_grad_() for x in xs]
    ys = [(y, part) for y, part in zip(f(*watched), u, strict=True) if y.requires_grad]
    outputs, parts = zip(*ys, strict=True) if ys else ((), ())
    return torch.autograd.grad(outputs, watched, parts, materialize_grads=True)


def assert_derivatives(f, xs, along, expected, tolerance=LOOSE, *, by_autograd=True):
    """Check and give the derivative of f along a direction: forwards, backwards, by autograd."""
    value, given = torch.func.jvp(f, xs, along)
    # Under a derivative the formula stands for a kernel, so these are two ways to a number.
    assert same_derivative(value, f(*xs), 0.0)
    assert same_derivative(given, expected, tolerance)
    u = random_like(given, 130)
    products = [a.double() * b.double() for a, b in zip(u, expected, strict=True)]
    size = sum(product.abs().sum() for product in products)
    for pulled in (torch.func.vjp(f, *xs)[1](u), *([backwards(f, xs, u)] if by_autograd else [])):
        difference = inner(pulled, along).double() - sum(product.sum() for product in products)
        assert abs(difference) <= 10 * tolerance * max(1.0, size)
    return given


def assert_differentiable(f, *trees, seed=70):
    """Check every derivative of f, a function of trees in float64, by central differences."""
    xs, of_tensors = flat(f, *trees)
    along = random_like(xs, seed)
    expected = slopes(of_tensors, xs, along)
    assert any(part.abs().max() > 0 for part in expected)
    assert_derivatives(of_tensors, xs, along, expected)
