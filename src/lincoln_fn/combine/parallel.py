"""Layers side by side."""

from __future__ import annotations

from collections.abc import Iterator

from lincoln_fn.combine.parts import check_entries, is_still, placed_parts, taken
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged


def parallel(*layers: Layer) -> Layer:
    """Put layers side by side, each with an input of its own: y_i = layer_i(x_i).

    Derivation. y_i depends on x_i alone, so dx_i is what layer_i makes of g_i.

    Args:
        *layers: the parts.

    Returns:
        The layer. Its x, y, params, caches and gradients are tuples with one entry a part.

    Raises:
        LayerError: from its functions, if a part raises one, or if a tuple has another number of
            entries.

    Example:
        >>> net = parallel(lf.relu(), lf.tanh())
        >>> net.predict(((), ()), (torch.tensor([-1.0]), torch.tensor([0.0])))
        (tensor([0.]), tensor([0.]))
    """
    return side_by_side("parallel", layers).replace(
        name=f"parallel({', '.join(layer.name for layer in layers)})",
        parts=layers,
        rebuild=lambda new_parts: parallel(*new_parts),
    )


def side_by_side(combinator: str, layers: tuple[Layer, ...]) -> Layer:
    """Make the functions of `parallel`, with errors that speak of another combinator.

    Args:
        combinator: the name that the errors give to the composition.
        layers: the parts.

    Returns:
        The layer.
    """
    parts = placed_parts(combinator, layers)
    count = len(parts)

    def init(key: Key, x: Arrays) -> Params:
        check_entries(combinator, "x", x, count)
        return tuple(parts[i].init(key.fold_in(i), x[i]) for i in range(count))

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        check(params=params, x=x)
        results = [part.forward(p, x_i) for part, p, x_i in zip(parts, params, x, strict=True)]
        return tuple(y for y, _ in results), tuple(cache for _, cache in results)

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        check(params=params, cache=cache, g=g)
        results = [
            part.backward(p, taken(part, cache, i), g_i) for i, part, p, g_i in rows(params, g)
        ]
        return tuple(dx for dx, _ in results), tuple(dparams for _, dparams in results)

    def predict(params: Params, x: Arrays) -> Arrays:
        check(params=params, x=x)
        return tuple(part.predict(p, x_i) for part, p, x_i in zip(parts, params, x, strict=True))

    def input_grad(params: Params, cache: Cache, g: Arrays) -> Arrays:
        check(params=params, cache=cache, g=g)
        each = rows(params, g)
        return tuple(part.input_grad(p, taken(part, cache, i), g_i) for i, part, p, g_i in each)

    def grads(params: Params, cache: Cache, g: Arrays) -> Params:
        check(params=params, cache=cache, g=g)
        each = rows(params, g)
        return tuple(part.grads(p, taken(part, cache, i), g_i) for i, part, p, g_i in each)

    def advance(params: Params, cache: Cache) -> Params:
        check(params=params, cache=cache)
        return tuple(part.advance(p, c) for part, p, c in zip(parts, params, cache, strict=True))

    def rows(params: Params, g: Arrays) -> Iterator[tuple[int, Layer, Params, Arrays]]:
        return zip(range(count), parts, params, g, strict=True)

    def check(**tuples: object) -> None:
        for name, given in tuples.items():
            check_entries(combinator, "the cache" if name == "cache" else name, given, count)

    return Layer(
        combinator,
        forward,
        backward,
        init,
        predict,
        input_grad,
        grads,
        unchanged if is_still(layers) else advance,
        empties_cache=True,
    )
