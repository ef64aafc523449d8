"""What a layer declares of itself, once, beside its mathematics.

A layer's functions compute. Per-example gradients, curvature, backward rules and relevance have to
know more: which kind of layer it is, and how its parameters enter. A layer declares both of its own
functions, so the declaration goes wherever they go: through `functools.partial`, `lf.fast`,
`Layer.replace`, pickle, and into a layer that is made of known functions.

- The kind is that of the layer whose `forward` it is declared of.
- The terms are those of the layer whose `grads` they are declared of, or whose `backward` if it has
  no `grads` of its own. A layer with another `grads` has other gradients, and no terms.

Nothing is required. A walk that needs what a layer does not declare works by the layer's functions
alone, tries it on the layer, or refuses the layer by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final, Literal, TypeAlias, get_args

import attrs

from lincoln_fn.core.layer import Layer, is_derived
from lincoln_fn.core.signatures import unbound
from lincoln_fn.core.spec import constructor_of
from lincoln_fn.core.values import Arrays, Cache, Params
from lincoln_fn.errors.annotations import Function
from lincoln_fn.errors.errors import unexpected

# (params, cache, g) -> terms, in the structure of params.
Terms: TypeAlias = Callable[[Params, Cache, Arrays], Params]

Kind: TypeAlias = Literal[
    # They multiply by a matrix or by kernels, and may add a bias.
    "dense", "convolution", "scores", "bilinear", "recurrent",
    # They normalise; batch norm over the batch.
    "norm", "batch_norm",
    # Each element of y is a function of one of x, such as relu.
    "activation", "dropout",
    # Each element of y is one of x, or an interpolation between several.
    "moving", "max_pool",
    # A sum or a mean of elements of x, or another function with f(c x) = c f(x).
    "average", "addition",
    "softmax", "log_softmax", "product", "similarity", "gated", "attention", "embedding",
    # None of these, such as a variance: it has no shares of which y is the sum.
    "other",
]  # fmt: skip
KINDS: Final[tuple[str, ...]] = get_args(Kind)
# How a layer takes the mask of a sequence, as `declare` explains.
Mask: TypeAlias = Literal["sequence", "state", "position"]
# Kinds of layers that compute each position of a sequence by itself.
_BY_POSITION: Final = (
    "dense", "scores", "bilinear", "activation", "dropout", "addition", "product", "similarity",
    "embedding",
)  # fmt: skip


@attrs.frozen(eq=False)
class Declaration:
    """What a layer declares; `declare` explains the fields."""

    kind: Kind | None = None
    terms: Terms | None = None
    dx_and_terms: Terms | None = None
    params: type | None = None
    at_inference: tuple[Function, Function] | None = None
    reads: tuple[str, ...] | None = None
    decode: tuple[Function, Function] | None = None
    mask: Mask | None = None
    along: str | None = None


_NOTHING: Final = Declaration()


def declare(
    *functions: Function,
    kind: Kind | None = None,
    terms: Terms | None = None,
    dx_and_terms: Terms | None = None,
    params: type | None = None,
    at_inference: tuple[Function, Function] | None = None,
    reads: tuple[str, ...] | None = None,
    decode: tuple[Function, Function] | None = None,
    mask: Mask | None = None,
    along: str | None = None,
) -> None:
    """Declare what a layer is, and how its parameters enter.

    A second call for the same function adds to the first.

    Args:
        *functions: the layer's `forward`; its `grads`, or its `backward` if it has no `grads`; and
            its `predict`, if it has one of its own.
        kind: which kind of layer it is, such as "dense", "norm" or "activation". Relevance
            propagation chooses its rule by it. "dense", "convolution", "bilinear" and "recurrent"
            have matrices, for which feedback alignment and its kin have others on the way back.
        terms: (params, cache, g) -> terms, which mirror params: the gradient of each example in one
            of the forms of `lf.terms`.
        dx_and_terms: (params, cache, g) -> (dx, terms), in place of `terms`, for a layer in which
            the two share their work.
        params: the class of the layer's params, a record with a `weight` and a `bias`, if K-FAC is
            to precondition it: y = x W + b with the weight (n_in, n_out) as an `Outer` of x and g,
            or kernels (n_out, n_in, *kernel) as a `Correlation`.
        at_inference: declared of `predict`: a (forward, backward) that computes what `predict` does
            and its gradient, for `lf.inference`. This forward takes `predict`'s hyperparameters.
        reads: declared of `input_grad`, or of `backward` if there is no `input_grad`, or of
            `advance`: the paths of those tensors in the cache whose values the function reads. It
            reads only the shapes of the others. A layer that is linear in x computes dx from g and
            its params, and reads (). While a layer is not trained, a training step keeps no more.
        decode: declared of the function that computes the prediction, `predict` or `forward`: an
            (init, step) for `lf.decode`, as `lincoln_fn.decoding.Row` explains them.
        mask: declared of `forward`: how the layer takes the mask of a sequence, for `lf.masked`:
            "sequence" if its x is (sequence, mask), "state" if it is (sequence, state, mask) and
            its y (y, state); "position" if it computes each position by itself, and needs none.
        along: declared of `forward`: along which axes of y the layer adds up, mixes or moves
            elements. "rows" are those of each matrix; else it names the field of the cache, or the
            argument of the constructor, that has the axis or the axes. For the gradients of single
            examples, none of them may be that of the examples.

    Raises:
        LayerError: if a function cannot have a declaration, or there is no such kind.

    Example:
        >>> def forward(params, x):
        ...     return torch.sin(x), x
        >>> def backward(params, x, g):
        ...     return g * torch.cos(x), ()
        >>> declare(forward, kind="activation")
        >>> kind_of(lf.Layer("sin()", forward, backward))
        'activation'
    """
    if kind is not None and kind not in KINDS:
        raise unexpected("declare", f"kind to be one of {', '.join(KINDS)}", f"{kind!r}")
    made = Declaration(kind, terms, dx_and_terms, params, at_inference, reads, decode, mask, along)
    fields = attrs.asdict(made, recurse=False).items()
    given = {name: value for name, value in fields if value is not None}
    for function in functions:
        _attach(function, attrs.evolve(declared_by(function), **given))


def _attach(function: Function, made: Declaration) -> None:
    if not hasattr(function, "__dict__") or isinstance(function, partial):
        expected = "a function of the layer, without bound arguments"
        raise unexpected("declare", expected, f"{function!r}")
    function.__dict__["declaration"] = made


def declared_by(function: Function) -> Declaration:
    """Return what was declared of a function, whatever arguments are bound to it."""
    made: Declaration = getattr(unbound(function), "declaration", _NOTHING)
    return made


def declare_like(
    function: Function, formula: Function, to_formula_cache: Callable[[Params, Cache], Cache] | None
) -> None:
    """Declare of a faster function what its formula declares."""
    # to_formula_cache: (params, cache) -> the formula's cache; None if the caches are the same.
    made = declared_by(formula)
    if made is _NOTHING or isinstance(function, partial):
        return
    if to_formula_cache is not None:
        terms, both = (
            each and partial(_by_formula, each, to_formula_cache)
            for each in (made.terms, made.dx_and_terms)
        )
        made = attrs.evolve(made, terms=terms, dx_and_terms=both)
    _attach(function, made)


def _by_formula(
    terms: Terms, to_formula_cache: Callable[[Params, Cache], Cache], params: Params, cache: Cache,
    g: Arrays,
) -> Params:  # fmt: skip
    return terms(params, to_formula_cache(params, cache), g)


def kind_of(layer: Layer) -> Kind | None:
    """Return the kind of a single layer; None if it declares none.

    Example:
        >>> kind_of(lf.conv2d(4, 3)), kind_of(lf.tanh()), kind_of(lf.inference(lf.dropout()))
        ('convolution', 'activation', 'dropout')
    """
    return declared_by(layer.forward).kind


def mask_of(layer: Layer) -> Mask | None:
    """Return how a single layer takes the mask of a sequence; None if it does not say."""
    made, arguments = declared_by(layer.forward), layer.spec.arguments if layer.spec else {}
    if made.mask is not None:
        return made.mask
    if made.along is not None:
        dim = arguments.get(made.along, arguments.get("dim"))
        return "position" if dim == -1 else None
    if made.kind in _BY_POSITION:
        return "position"
    if "normalized_shape" in arguments:
        sizes = arguments["normalized_shape"]
        return "position" if isinstance(sizes, int) or len(sizes) == 1 else None
    inner = arguments.get("layer")  # as of `weight_norm`
    return mask_of(inner) if isinstance(inner, Layer) else None


def is_named_by(layer: Layer, table: Collection[object]) -> bool:
    """Return whether a table has a layer's kind, its constructor, or its `forward`."""
    names = (kind_of(layer), constructor_of(layer), unbound(layer.forward))
    return any(each in table for each in names)


def gradients_of(layer: Layer) -> Declaration:
    """Return what is declared of the function that computes a layer's gradients."""
    return declared_by(layer.backward if is_derived(layer, "grads") else layer.grads)


def input_grad_of(layer: Layer) -> Declaration:
    """Return what is declared of the function that computes a layer's dx."""
    return declared_by(layer.backward if is_derived(layer, "input_grad") else layer.input_grad)
