"""Functions whose gradients are right: torch's own, and the library's layers as Functions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import optree
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

import lincoln_fn as lf
from helpers import FIRST, Case, normal
from helpers.functions import by_hand
from helpers.functions.pair import function, leaf
from lincoln_fn.core import EVERYTHING


@attrs.frozen(eq=False)
class Right:
    """A function whose gradients are right.

    Args:
        f: a Function, a module or a plain function.
        inputs: its arguments.
    """

    name: str
    f: Any
    inputs: tuple[Any, ...]

    def __str__(self) -> str:
        return self.name


def _call(name: str, *inputs: Any, **options: Any) -> Right:
    """Call a function of torch.nn.functional or torch."""
    owner: Any = torch.linalg if name.startswith("linalg.") else F
    name = name.removeprefix("linalg.")
    f: Callable[..., Any] = getattr(owner, name, None) or getattr(torch, name)
    shown = "-".join([name, *map(str, options.values())])
    return Right(f"torch-{shown}", partial(f, **options) if options else f, inputs)


X, ROW, IMAGE = leaf(4, 6), leaf(6, seed=1), leaf(2, 4, 6, 5)
LINE, VOLUME = leaf(2, 4, 7), leaf(1, 2, 4, 5, 3)
POSITIVE = (leaf(4, 6).detach().abs() + 0.5).requires_grad_()
PART = (leaf(4, 6).detach().sigmoid()).requires_grad_()
OTHER, TARGET, SIGNS = leaf(4, 6, seed=2), torch.tensor([0, 3, 5, 3]), torch.tensor([1, -1, 1, -1])
BITS = (normal(4, 6) > 0).float()
SQUARE = (leaf(4, 4).detach() + 4 * torch.eye(4)).requires_grad_()
INDEX = torch.tensor([[0, 2, 1], [3, 3, 0]])
SEQUENCE = leaf(2, 5, 6)

ELEMENTWISE = [
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "softsign", "tanh", "sigmoid", "hardtanh", "hardsigmoid", "hardswish", "logsigmoid",
    "tanhshrink", "softshrink", "hardshrink", "sin", "cos", "exp", "erf", "atan", "sinh", "sinc",
    "square", "abs", "expm1",
]  # fmt: skip
OF_POSITIVE = ["log", "sqrt", "rsqrt", "reciprocal", "log1p", "lgamma", "digamma"]

FUNCTIONAL = [
    *(_call(name, X) for name in ELEMENTWISE),
    *(_call(name, POSITIVE) for name in OF_POSITIVE),
    _call("gelu", X, approximate="tanh"), _call("threshold", X, threshold=0.1, value=-1.0),
    _call("glu", X), _call("prelu", X, ROW),
    *(_call(name, X, dim=dim) for name in ("softmax", "log_softmax", "softmin") for dim in (0, -1)),
    _call("normalize", X), _call("layer_norm", X, (6,), ROW, leaf(6, seed=3)),
    _call("rms_norm", X, (6,), ROW), _call("group_norm", IMAGE, 2, leaf(4), leaf(4, seed=1)),
    _call("instance_norm", IMAGE), _call("local_response_norm", IMAGE, 3),
    _call("batch_norm", X, None, None, ROW, leaf(6, seed=3), training=True),
    _call("linear", X, leaf(3, 6), leaf(3)), _call("bilinear", X, OTHER, leaf(3, 6, 6), leaf(3)),
    _call("conv1d", LINE, leaf(3, 4, 3), leaf(3)),
    _call("conv2d", IMAGE, leaf(3, 4, 3, 2), leaf(3), stride=2),
    _call("conv2d", IMAGE, leaf(4, 1, 3, 3), leaf(4), groups=4),
    _call("conv3d", VOLUME, leaf(3, 2, 2, 2, 2), leaf(3)),
    _call("conv_transpose1d", LINE, leaf(4, 3, 3), leaf(3)),
    _call("conv_transpose2d", IMAGE, leaf(4, 3, 3, 2), leaf(3), stride=2),
    _call("max_pool1d", LINE, 2), _call("max_pool2d", IMAGE, 2), _call("max_pool3d", VOLUME, 2),
    _call("avg_pool1d", LINE, 2), _call("avg_pool2d", IMAGE, 2), _call("avg_pool3d", VOLUME, 2),
    _call("adaptive_avg_pool2d", IMAGE, (3, 2)), _call("adaptive_max_pool2d", IMAGE, (3, 2)),
    _call("lp_pool2d", POSITIVE[None, None], 2.0, kernel_size=2),
    _call("unfold", IMAGE, (2, 2)), _call("fold", leaf(2, 8, 6), (3, 4), (2, 2)),
    *(_call("interpolate", IMAGE, scale_factor=2, mode=m) for m in ("nearest", "bilinear")),
    _call("pixel_shuffle", IMAGE, 2), _call("pixel_unshuffle", leaf(1, 2, 4, 6), 2),
    *(_call("pad", LINE, (1, 2), mode=m) for m in ("constant", "reflect", "circular")),
    _call("embedding", INDEX, leaf(5, 3)), _call("embedding_bag", INDEX, leaf(5, 3)),
    *(_call("cross_entropy", X, TARGET, reduction=r) for r in ("mean", "sum", "none")),
    _call("cross_entropy", X, TARGET, label_smoothing=0.1),
    _call("nll_loss", X, TARGET), _call("mse_loss", X, OTHER), _call("l1_loss", X, OTHER),
    _call("smooth_l1_loss", X, OTHER), _call("huber_loss", X, OTHER),
    _call("kl_div", X, PART.detach(), reduction="batchmean"),
    _call("binary_cross_entropy", PART, BITS),
    _call("binary_cross_entropy_with_logits", X, BITS), _call("poisson_nll_loss", X, BITS),
    _call("gaussian_nll_loss", X, OTHER, POSITIVE), _call("soft_margin_loss", X, 2 * BITS - 1),
    _call("margin_ranking_loss", ROW, leaf(6, seed=4), 2 * BITS[0] - 1),
    _call("cosine_embedding_loss", X, OTHER, SIGNS),
    _call("triplet_margin_loss", X, OTHER, leaf(4, 6, seed=5)),
    _call("multi_margin_loss", X, TARGET), _call("multilabel_soft_margin_loss", X, BITS),
    _call("cosine_similarity", X, OTHER), _call("pairwise_distance", X, OTHER),
    *(_call("scaled_dot_product_attention", SEQUENCE, leaf(2, 5, 6, seed=1), leaf(2, 5, 6, seed=2),
            is_causal=c) for c in (False, True)),
    _call("grid_sample", IMAGE, (leaf(2, 3, 3, 2).detach() / 3).requires_grad_(),
        align_corners=False),
    _call("affine_grid", leaf(2, 2, 3), (2, 1, 3, 4), align_corners=False),
    _call("cumsum", X, 0), _call("cumprod", X, 1), _call("logcumsumexp", X, 0),
    _call("logsumexp", X, -1), _call("gather", X, 0, torch.tensor([[0, 1], [2, 2]])),
    _call("index_select", X, 0, torch.tensor([3, 0, 3])),
    _call("take_along_dim", X, TARGET[:, None], 1),
    _call("scatter_add", X, 0, torch.tensor([[0, 1], [2, 2]]), leaf(2, 2)),
    _call("where", BITS > 0, X, OTHER), _call("clamp", X, -0.5, 0.5), _call("maximum", X, OTHER),
    _call("matmul", SEQUENCE, leaf(6, 3)), _call("bmm", SEQUENCE, leaf(2, 6, 3)),
    _call("cdist", X, leaf(3, 6, seed=5)), _call("std", X, -1), _call("var", X, -1),
    _call("prod", X, -1), _call("sort", X), _call("amax", X, -1), _call("roll", X, 1, 0),
    _call("atan2", X, OTHER), _call("lerp", X, OTHER, 0.3), _call("outer", ROW, leaf(4)),
    _call("kron", leaf(2, 2), leaf(2, 3)), _call("linalg.inv", SQUARE), _call("linalg.det", SQUARE),
    _call("linalg.solve", SQUARE, leaf(4, 3)), _call("linalg.norm", X), _call("tril", SQUARE),
    _call("linalg.matrix_exp", (leaf(3, 3).detach() / 3).requires_grad_()),
    Right("torch-einsum", partial(torch.einsum, "bij,jk->bki"), (SEQUENCE, leaf(6, 3))),
    Right("operator", torch.ops.aten.mul.Tensor, (X, ROW)), _call("dropout", X),
    Right("kinks", lambda x: F.max_pool1d(x.relu(), 2), (X,)),
    *(Right(f"gelu in {d}", F.gelu, (leaf(4, 6, dtype=getattr(torch, d)),))
        for d in ("float64", "float16")),
    Right("running statistics", partial(F.batch_norm, training=True),
        (X, torch.zeros(6), torch.ones(6))),
]  # fmt: skip


def _module(module: nn.Module, *inputs: Any) -> Right:
    return Right(f"module-{str(module).splitlines()[0].rstrip('(')}", module, inputs)


def modules() -> list[Right]:
    """Make modules of torch, from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [
            _module(nn.Linear(6, 3), X), _module(nn.Linear(6, 3, bias=False), X),
            _module(nn.Conv2d(4, 3, 3, padding=1), IMAGE), _module(nn.BatchNorm1d(6), X),
            _module(nn.BatchNorm2d(4), IMAGE), _module(nn.LayerNorm(6), X),
            _module(nn.GroupNorm(2, 4), IMAGE), _module(nn.RMSNorm(6), X), _module(nn.PReLU(), X),
            _module(nn.Embedding(5, 3), INDEX), _module(nn.Bilinear(6, 6, 2), X, OTHER),
            _module(nn.RNN(6, 3, batch_first=True), SEQUENCE),
            _module(nn.GRU(6, 3, batch_first=True), SEQUENCE),
            _module(nn.LSTM(6, 3, batch_first=True), SEQUENCE),
            _module(nn.LSTMCell(6, 3), X), _module(nn.GRUCell(6, 3), X),
            _module(nn.MultiheadAttention(6, 2, batch_first=True), SEQUENCE, SEQUENCE, SEQUENCE),
            _module(nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True), SEQUENCE),
            _module(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)), X),
            _module(nn.ConvTranspose2d(4, 2, 3, stride=2), IMAGE),
            _module(nn.Upsample(scale_factor=2), LINE),
            _module(nn.CrossEntropyLoss(), X, TARGET), _module(nn.Softmax(-1), X),
            _module(nn.Flatten(), IMAGE), _module(nn.ReLU(inplace=True), X),
            _module(nn.CosineSimilarity(), X, OTHER),
        ]  # fmt: skip


def of_layer(case: Case) -> Right:
    """Make an autograd.Function of a layer: of the tensors of x, then of its parameters."""
    layer, given = case.layer, case.params()
    xs, form = optree.tree_flatten(case.x, namespace=EVERYTHING)

    def forward(ctx, *tensors):
        trained = iter(tensors[len(xs) :])
        ctx.params = lf.tree.map(lambda _: next(trained), given)
        y, ctx.cache = layer.forward(ctx.params, optree.tree_unflatten(form, tensors[: len(xs)]))
        ys, ctx.form = optree.tree_flatten(y, namespace=EVERYTHING)
        return tuple(ys) if len(ys) > 1 else ys[0]

    @once_differentiable
    def backward(ctx, *gs):
        g = optree.tree_unflatten(ctx.form, gs)
        dx, dparams = layer.backward(ctx.params, ctx.cache, g)
        dxs = optree.tree_leaves(dx, namespace=EVERYTHING, none_is_leaf=True)
        return *dxs, *lf.tree.leaves(dparams)

    inputs = [x.detach().clone() for x in (*xs, *lf.tree.leaves(given))]
    inputs = [x.requires_grad_(x.is_floating_point()) for x in inputs]
    return Right(f"layer-{case.constructor}", function(forward, backward), tuple(inputs))


# Their gradients are another function's by design; the first `branch` has a `constant` in it.
ESTIMATORS = {"stop_gradient", "vector_quantize", "branch"}
RIGHT = [
    *FUNCTIONAL,
    *modules(),
    *(Right(f"by-hand-{name}", f, inputs) for name, f, inputs in by_hand.ROWS),
    *(of_layer(case) for case in FIRST if case.constructor not in ESTIMATORS),
]
