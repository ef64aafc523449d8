"""What courses begin with: sums and their kin, two inputs, and positions given by indices."""

import torch

import lincoln_fn as lf
from helpers.cases.case import Case, normal, uniform

LINE, ROWS = normal(2, 3, 5), normal(5, 3)
PAIR = ROWS, normal(5, 3, seed=1)
POSITIVE = uniform(5, 3, low=0.5, high=3.0)
INDEX = torch.tensor([[1, 0, 2], [4, 0, 3]])


def case(layer, x, function):
    """Pair a layer with a function of torch of the same inputs."""
    return Case(layer, x, lambda params, x: function(*(x if type(x) is tuple else (x,))))


REDUCTIONS = [
    case(lf.sum(), ROWS, torch.sum),
    case(lf.sum((0, -1), keepdim=True), LINE, lambda x: x.sum((0, 2), keepdim=True)),
    case(lf.mean(1), LINE, lambda x: x.mean(1)),
    case(lf.amax(-1), LINE, lambda x: x.amax(-1)),
    case(lf.norm(), ROWS, torch.linalg.vector_norm),
    case(lf.norm(3, 1, keepdim=True), LINE, lambda x: x.norm(3, 1, keepdim=True)),
    case(lf.logsumexp(1), LINE, lambda x: x.logsumexp(1)),
    case(lf.logsumexp(keepdim=True), ROWS, lambda x: x.logsumexp((0, 1), keepdim=True)),
    case(lf.variance(1), LINE, lambda x: x.var(1)),
    case(lf.variance(correction=0, keepdim=True), ROWS,
        lambda x: x.var((0, 1), correction=0, keepdim=True)),
]  # fmt: skip
SEVERAL = [
    case(lf.subtract(), PAIR, torch.subtract),
    case(lf.divide(), (ROWS, POSITIVE), torch.divide),
    case(lf.maximum(), PAIR, torch.maximum),
    case(lf.where(), (PAIR[1] > 0.2, *PAIR), torch.where),
    case(lf.matmul(), (normal(5, 3), normal(3, 4, seed=1)), torch.matmul),
    case(lf.matmul(), (normal(2, 1, 5, 3), normal(4, 3, 2, seed=1)), torch.matmul),
    case(lf.broadcast_tensors(), (normal(2, 1, 4), normal(3, 1, seed=1)), torch.broadcast_tensors),
    case(lf.stack(1), PAIR, lambda *x: torch.stack(x, 1)),
]
MOVED = [
    case(lf.broadcast_to(-1, 4, -1), normal(2, 1, 3), lambda x: x.expand(2, 4, 3)),
    case(lf.split(2, dim=-1), LINE, lambda x: x.split(2, -1)),
    case(lf.split((1, 2), dim=1), LINE, lambda x: x.split((1, 2), 1)),
    case(lf.flip(0, -1), LINE, lambda x: x.flip(0, 2)),
    Case(lf.dilate(3, (1, 2)), LINE),
    case(lf.gather(0), (ROWS, INDEX), lambda x, index: x.gather(0, index)),
    case(lf.gather(-1), (ROWS, INDEX[:, :2] % 3), lambda x, index: x.gather(1, index)),
    case(lf.index_select(), (ROWS, INDEX), lambda x, index: x[index]),
    case(lf.index_select(-1), (LINE, INDEX[1]), lambda x, index: x[..., index]),
    # No position is written twice.
    case(lf.scatter(0), (ROWS, torch.tensor([[1, 3, 2], [4, 0, 3]]), normal(2, 3, seed=1)),
        lambda x, index, source: x.scatter(0, index, source)),
    case(lf.scatter(-1, reduce="add"), (ROWS, torch.tensor([[2, 0, 2, 1]]), normal(1, 4, seed=1)),
        lambda x, index, source: x.scatter_add(1, index, source)),
]  # fmt: skip
CASES = [*REDUCTIONS, *SEVERAL, *MOVED]
