"""Edge attribution patching: what patching each edge between heads and MLPs would change.

In a network of residual connections, x_(j + 1) = x_j + f_j(x_j), each branch f_j reads the sum of
the first input x_1 and all branches' outputs before it. Patching the edge from i to j puts the
clean output of f_i into what f_j reads, and into nothing else.

Derivation. With dx_j = (d f_j)^T g_j, g_j being the gradient of f_j's output, the stream adds up

    g_i = g_"end" + sum_(j > i) dx_j

so the effect of patching the output a_i, (a_i - a_i') g_i to first order, is the sum over its edges

    "edge"(i, j) = (a_i - a_i') dx_j
    "edge"(i, "output") = (a_i - a_i') g_"end"

The output of attention is a sum over its heads, z_h W_h. With dz = W^T dx_j, which the branch's
backward computes on its way, head h has the edge (z_h - z_h') dz_h. What attention reads is read by
the query, the key and the value of each head. The dx_j of one of them is that for which the other
heads' dx are 0, and these add up to dx_j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution.attribution_patching import Metric
from lincoln_fn.attribution.gradient import explained_output
from lincoln_fn.combine import inference, residual
from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, made_by
from lincoln_fn.layers import attention_heads
from lincoln_fn.rules.internal import with_true_gradient
from lincoln_fn.walk.internal import inside, map_paths, paths
from lincoln_fn.walk.walks import back

NAME: Final = "edge_attribution_patching"


@attrs.frozen(eq=False)
class _Use:
    layer: Layer
    params: Params
    x: Tensor
    y: Tensor
    cache: Cache


Uses: TypeAlias = dict[str, _Use]  # by path


def edge_attribution_patching(
    net: Layer,
    params: Params,
    clean_x: Arrays,
    corrupted_x: Arrays,
    metric: Metric,
    *,
    rule: Callable[[Layer], Layer] | None = None,
) -> dict[tuple[str, str], Tensor]:
    """Estimate the effect of patching every edge between the residual branches of a network.

    The outermost residual connections have to be one stream, x + f(x) again and again. Until its
    end, only their branches may read it. The arguments are those of `attribution_patching`.

    Returns:
        By the source and the target, the effect of shape (batch, ..., length): the product
        (a_clean - a_corrupted) dx of the module, summed over features. A source is "input", the
        path of a branch, or "PATH, head 0", with the path of its heads. A target is the path of a
        later branch, "PATH, query 0", "PATH, key 0" or "PATH, value 0", or "output". An edge
        without effect is left out.

    Raises:
        LayerError: if the branches do not add up to a stream, as behind a norm that is outside the
            residual connections, or with a shortcut; if one is used several times, or computed
            again, as by `checkpointed`; or if the two inputs have different shapes.

    Source:
        Syed, Rager and Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", 2023.

    Example:
        >>> net, x = lf.serial(lf.residual(lf.dense(2)), lf.residual(lf.tanh())), torch.eye(2)
        >>> params = net.init(lf.Key(0), x)
        >>> list(edge_attribution_patching(net, params, x[:1], x[1:], 0))
        [('input', '0.0'), ('input', '1.0'), ('0.0', '1.0'), ('input', 'output'), \
('0.0', 'output'), ('1.0', 'output')]
    """
    core.check_argument(NAME, "net", Layer, net, ("net", "params", "clean_x", "corrupted_x"))
    net = with_true_gradient(inference(net))
    heads = _branches(net)
    clean: Uses = {}
    corrupted: Uses = {}
    gradients: dict[str, Tensor] = {}
    _watched(net, heads, clean, {}).forward(params, clean_x)
    watched = _watched(net if rule is None else rule(net), heads, corrupted, gradients)
    y, cache = watched.forward(params, corrupted_x)
    g = metric(y) if callable(metric) else explained_output(NAME, y, metric)
    watched.input_grad(params, cache, g)

    first, last = next(iter(heads)), next(reversed(heads))
    end = _first(corrupted[_around(last)].y)
    _check_stream({path: corrupted[path] for path in heads}, end)
    shapes = [tuple(uses[first].x.shape) for uses in (clean, corrupted)]
    core.require(shapes[0] == shapes[1], NAME, "both runs of one shape", shapes)

    effects: dict[tuple[str, str], Tensor] = {}
    before: list[str] = []
    targets = {path: _targets(path, heads[path], corrupted, gradients[path]) for path in heads}
    for path, of_path in [*targets.items(), ("", [("output", gradients[last])])]:
        for target, dx in of_path:
            if not dx.any():
                continue
            effects["input", target] = ((clean[first].x - corrupted[first].x) * dx).sum(-1)
            for source in before:
                found = _sources(source, heads[source], clean, corrupted, dx)
                effects.update({(label, target): effect for label, effect in found})
        before.append(path)
    return effects


def _branches(net: Layer) -> dict[str, str | None]:
    """Find the branches of all outermost residual connections, and the one layer of heads in each.

    Both are paths; None for a branch with no such layer, or with several.
    """
    found: dict[str, str | None] = {}
    for path, layer in paths(net):
        if made_by(layer, residual) and not any(
            f"{path}.".startswith(f"{each}.") for each in found
        ):
            branch = inside(path, 0)
            named = paths(layer.parts[0], branch)
            inner = [at for at, part in named if core.file_of_forward(part) is attention_heads]
            found[branch] = inner[0] if len(inner) == 1 else None
    if not found:
        raise core.unexpected(NAME, "a network with residual connections", net)
    return found


def _watched(
    net: Layer, heads: dict[str, str | None], uses: Uses, gradients: dict[str, Tensor]
) -> Layer:
    """Let the branches and their heads note each use, and the gradient of its output."""
    watched = {*heads, *heads.values(), _around(next(reversed(heads)))}

    def changed(layer: Layer, path: str) -> Layer:
        if path not in watched:
            return layer

        def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
            y, cache = layer.forward(params, x)
            if path in uses:
                expected = "a branch that is used once"
                raise core.unexpected(f"{NAME}: {path!r}", expected, "a second use")
            uses[path] = _Use(layer, params, _first(x), y, cache)
            return y, cache

        def input_grad(params: Params, cache: Cache, g: Tensor) -> Arrays:
            gradients[path] = g
            return layer.input_grad(params, cache, g)

        return layer.replace(forward=forward, input_grad=input_grad)

    return map_paths(changed, net)


def _around(branch: str) -> str:
    return branch.rpartition(".")[0]


def _first(x: Arrays) -> Tensor:
    """Return the stream, without what goes along with it, such as a mask."""
    stream: Tensor = x[0] if isinstance(x, tuple) else x
    return stream


def _check_stream(branches: Mapping[str, _Use], end: Tensor) -> None:
    """Check that x + y of each branch is what the next one reads, or the stream's end."""
    later = [*((path, use.x) for path, use in branches.items()), ("output", end)][1:]
    for use, (path, x) in zip(branches.values(), later, strict=True):
        if use.x.shape != use.y.shape or not torch.equal(use.x + use.y, x):
            problem = "expected it to read the sum of the input and all branches before it"
            raise LayerError(f"{NAME}: {path!r}", problem)


def _pulled(
    branch: _Use, at: str, g: Tensor, keep: Callable[[Arrays], Arrays] = lambda dx: dx
) -> tuple[Tensor, Tensor]:
    """Send g back through a branch, with what is kept at the heads; return dx, and g there."""

    def visit(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, Arrays]:
        dx = layer.input_grad(params, cache, g)
        return (keep(dx), g) if path == at else (dx, None)

    dx, records = back(visit, branch.layer, branch.params, branch.cache, g)
    [at_heads] = core.tree.leaves(records)
    return _first(dx), at_heads


def _targets(path: str, heads: str | None, uses: Uses, g: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Compute dx of a branch, or of query, key and value of each of its heads."""
    branch = uses[path]
    if heads is None:
        yield path, _first(branch.layer.input_grad(branch.params, branch.cache, g))
        return
    q, k = uses[heads].cache.q, uses[heads].cache.k
    for entry, (name, split) in enumerate((("query", q), ("key", k), ("value", k))):
        count = split.shape[-3]
        for head in range(count):
            keep = partial(_of_head, entry=entry, head=head, count=count)
            yield f"{heads}, {name} {head}", _pulled(branch, heads[len(path) + 1 :], g, keep)[0]


def _of_head(dx: tuple[Tensor | None, ...], *, entry: int, head: int, count: int) -> Arrays:
    """Keep of dx that of one head's query, key or value."""
    zeros = [None if each is None else torch.zeros_like(each) for each in dx]
    own = dx[entry]
    assert own is not None, "queries, keys and values are floating"
    heads = torch.arange(own.shape[-1], device=own.device) // (own.shape[-1] // count)
    zeros[entry] = torch.where(heads == head, own, 0.0)
    return tuple(zeros)


def _sources(
    path: str, heads: str | None, clean: Uses, corrupted: Uses, dx: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Compute the effects on dx of a branch, or of each of its heads."""
    if heads is None:
        yield path, ((clean[path].y - corrupted[path].y) * dx).sum(-1)
        return
    _, dz = _pulled(corrupted[path], heads[len(path) + 1 :], dx)
    of_heads = (clean[heads].y - corrupted[heads].y) * dz
    by_head = of_heads.reshape(*of_heads.shape[:-1], corrupted[heads].cache.q.shape[-3], -1)
    for head, effect in enumerate(by_head.sum(-1).unbind(-1)):
        yield f"{heads}, head {head}", effect
