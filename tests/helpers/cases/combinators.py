"""Combinators, over layers with and without parameters."""

import torch
from torch.nn.functional import linear

import lincoln_fn as lf
from helpers.cases.case import Case, normal


def dense(params, x):
    return linear(x, params.weight.mT, params.bias)


def dense_relu_dense(params, x):
    return dense(params[2], torch.relu(dense(params[0], x)))


PAIR = (normal(5, 3), normal(4, 2, seed=1))
SAME = (normal(5, 3), normal(5, 3, seed=1), normal(5, 3, seed=2))
BLOCK = lf.serial(lf.dense(4), lf.relu(), lf.dense(3))

TOKENS = torch.tensor([[4, 2, 0, 1], [3, 1, 5, 2], [1, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)
NONE_FIRST = MASK & torch.tensor([[False], [True], [True]])
SMALL = lf.initializers.normal(0.15)
COUPLED = lf.reversible((lf.serial(lf.dense(3), lf.tanh()), lf.dense(3)), (lf.tanh(), lf.dense(3)))
AFFINE = lf.serial(lf.parallel(lf.dense(4), lf.dense(4, weight_init=SMALL)), lf.add())
FIELD = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
READER = lf.masked(lf.embedding(6, 4), lf.lstm(3, bidirectional=True), lf.layer_norm())
ATTENTIVE = lf.masked(lf.transformer_encoder_block(2, dim_feedforward=5, dropout=0.0), lf.dense(3))


def centred(x, *, w, b):
    """Use a value three times, and repeat others, as an expression of torch or of a graph."""
    h = x @ w + b
    return (h - h.mean(1, keepdim=True)) ** 2 / (1 + h.exp())


def drawn(key, x):
    return {"w": lf.keys.normal(key.fold_in(0), (x.shape[-1], 4)), "b": lf.keys.normal(key, (4,))}


def selected(a, b, mask):
    """Use numbers, functions of torch and its short names, and return two values."""
    c = 1 - a + 2 * b - 0.5 + 0.3 / a.exp() - b / 4
    d = torch.where(mask, c.abs(), torch.maximum(a, b)).clamp(min=0.2)
    return torch.stack([d.pow(0.5), -c, a.sub(b), 1 / d]).logsumexp(0).var(1), abs(d.split(2)[1])


def mean_of_affine(params, x):
    sequence, mask = x
    h = torch.tanh(dense(params[0][0], sequence))
    return (h * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


def by_running(params, x):
    weights = params.running.mean, params.running.var, params.weight, params.bias
    return torch.nn.functional.batch_norm(x, *weights, training=False)


def coupled(params, x):
    (dense_1, _), dense_2, _, dense_4 = params
    x1, x2 = x.chunk(2, -1)
    y1 = x1 + torch.tanh(dense(dense_1, x2))
    y2 = x2 + dense(dense_2, y1)
    z1 = y1 + torch.tanh(y2)
    return torch.cat([z1, y2 + dense(dense_4, z1)], -1)


def solved(params, x):
    (of_x, of_z), _ = params
    right = dense(of_x, x) + of_z.bias
    return right @ torch.linalg.inv(torch.eye(4, dtype=x.dtype) - of_z.weight)


def midpoints(params, x):
    first, _, last = params
    for _ in range(2):
        k = dense(last, torch.tanh(dense(first, x)))
        x = x + dense(last, torch.tanh(dense(first, x + k / 4))) / 2
    return x


def scanned(params, x):
    h, ys = x.new_zeros(len(x), 4), []
    for x_t in x.unbind(1):
        h = torch.tanh(
            x_t @ params.weight_ih + params.bias_ih + h @ params.weight_hh + params.bias_hh
        )
        ys.append(h)
    return torch.stack(ys, 1)


NORMED = lf.inference(
    lf.serial(lf.dense(4), lf.batch_norm(), lf.rrelu(0.25, 0.75), lf.dropout(0.5), lf.dense(2))
)


def normed(params, x):
    h = by_running(params[1], dense(params[0], x))
    return dense(params[4], torch.nn.functional.leaky_relu(h, 0.5))


INFERENCE = [
    Case(lf.inference(lf.batch_norm()), normal(5, 3), by_running),
    Case(lf.inference(lf.batch_norm(affine=False)), normal(5, 3), by_running),
    Case(lf.inference(lf.batch_norm(track_running_stats=False)), normal(5, 3)),
    Case(lf.inference(lf.instance_norm(affine=True, track_running_stats=True, spatial_axes=2)),
        normal(3, 2, 4), lambda params, x: by_running(params, x.unsqueeze(0)).squeeze(0)),
    Case(lf.inference(lf.instance_norm()), normal(5, 3, 4)),
    Case(lf.inference(lf.dropout(0.5)), normal(5, 3), lambda params, x: x * 1),
    Case(lf.inference(lf.alpha_dropout(0.5)), normal(5, 3), lambda params, x: x * 1),
    Case(lf.inference(lf.fractional_max_pool2d(2, output_size=2)), normal(2, 3, 5, 6)),
    Case(lf.inference(lf.multi_head_attention(2, dropout=0.5)), normal(2, 5, 4)),
    Case(NORMED, normal(5, 3), normed),
    Case(lf.frozen(lf.batch_norm(), statistics="still"), normal(5, 3),
        lambda params, x: by_running(params.params, x)),
]  # fmt: skip

FLOW = lf.serial(lf.coupling(lf.dense(4)), lf.coupling(lf.dense(6), swap=True, max_log_scale=None))


def flown(params, x):
    a, b = x.split((3, 2), -1)
    s, t = dense(params[0], a).chunk(2, -1)
    s = 2 * torch.tanh(s / 2)
    b = b * s.exp() + t
    r, u = dense(params[1], b).chunk(2, -1)
    return torch.cat((a * r.exp() + u, b), -1), s.sum(-1) + r.sum(-1)


def slope_of(f):
    """Give a function's value and its derivative along a direction, by torch's forward mode."""
    return lambda params, x: torch.func.jvp(lambda at: f(params, at), x[:1], x[1:])


def field(params, x):
    return dense(params[2], torch.tanh(dense(params[0], x)))


DIRECTED = (normal(5, 3), normal(5, 3, seed=1))
OUTPUTS = lf.serial(lf.checkpointed(BLOCK), lf.residual(lf.tanh()), lf.dense(2))
TEACHER = lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout(0.5))


def of_experts(params, x, top_k=2):
    """Let one expert after the other compute all tokens."""
    z = linear(x, params.router.weight.mT)
    p = torch.softmax(z, -1)
    best = torch.topk(p, top_k, -1)
    w = torch.zeros_like(p).scatter(-1, best.indices, best.values / best.values.sum(-1, True))
    return sum(w[..., i, None] * dense(each, x) for i, each in enumerate(params.experts))


EXPERTS = [
    Case(lf.mixture_of_experts(lf.dense(4, bias=False), (lf.dense(3),) * 4), normal(2, 5, 6),
        of_experts),
    Case(lf.mixture_of_experts(lf.dense(3), (lf.swiglu(2), lf.tanh(), lf.dense(4)), top_k=1,
            norm_topk_prob=False), normal(6, 4)),
]  # fmt: skip
STOPPED = [
    Case(lf.tapped(BLOCK, "1"), normal(5, 3),
        lambda p, x: (dense_relu_dense(p, x), (torch.relu(dense(p[0], x)),))),
    Case(lf.tapped(OUTPUTS, "1.0", "0.0.?", "1"), normal(5, 3)),
    Case(lf.stop_gradient(), normal(5, 3)),
    Case(lf.branch(lf.dense(4), lf.constant(TEACHER)), normal(5, 3)),
]  # fmt: skip

CASES = [
    Case(FLOW, normal(4, 5), flown),
    Case(lf.coupling(lf.conv2d(4, 1), dim=1), (normal(3, 4, 2, 1), normal(3, seed=1))),
    *INFERENCE,
    *STOPPED,
    *EXPERTS,
    Case(READER, (TOKENS, MASK)),
    Case(ATTENTIVE, (normal(3, 4, 6), MASK)),
    Case(lf.serial(lf.masked(lf.dense(3), lf.tanh()), lf.masked_mean()), (normal(3, 4, 2), MASK),
        mean_of_affine),
    Case(lf.jvp(FIELD), DIRECTED, slope_of(field)),
    Case(lf.jvp(lf.jvp(FIELD)), (DIRECTED, (normal(5, 3, seed=2), normal(5, 3, seed=3))),
        slope_of(slope_of(field))),
    Case(lf.masked_mean(), normal(3, 4, 2), lambda params, x: x.mean(1)),
    Case(lf.masked_mean(), (normal(4, 2), MASK[0]), lambda params, x: x[0][:2].mean(0)),
    Case(lf.masked_mean(), (normal(3, 4, 2), NONE_FIRST)),
    Case(lf.last_state(), normal(3, 4, 2), lambda params, x: x[:, -1] * 1),
    Case(lf.last_state(), (normal(3, 4, 2), MASK),
        lambda params, x: x[0][torch.arange(3), torch.tensor([1, 3, 0])]),
    Case(lf.last_state(), (normal(3, 4, 2), NONE_FIRST)),
    Case(lf.identity(), normal(5, 3), lambda params, x: x * 1),
    Case(lf.add(), SAME, lambda params, x: x[0] + x[1] + x[2]),
    Case(lf.multiply(), SAME, lambda params, x: x[0] * x[1] * x[2]),
    Case(lf.concatenate(), (normal(5, 3), normal(5, 2, seed=1)),
        lambda params, x: torch.cat(x, -1)),
    Case(lf.concatenate(dim=1), (normal(5, 3, 2), normal(5, 1, 2, seed=1), normal(5, 4, 2, seed=2)),
        lambda params, x: torch.cat(x, 1)),
    Case(lf.residual(BLOCK), normal(5, 3), lambda p, x: dense_relu_dense(p[0], x) + x),
    Case(lf.residual(lf.serial(lf.dense(4), lf.tanh()), lf.dense(4, bias=False)), normal(5, 3),
        lambda p, x: torch.tanh(dense(p[0][0], x)) + dense(p[1], x)),
    Case(lf.parallel(lf.dense(4), lf.tanh()), PAIR,
        lambda p, x: (dense(p[0], x[0]), torch.tanh(x[1]))),
    Case(lf.branch(lf.dense(4), lf.tanh(), lf.dense(2), merge=lf.concatenate()), normal(5, 3),
        lambda p, x: torch.cat([dense(p[0], x), torch.tanh(x), dense(p[2], x)], -1)),
    Case(lf.branch(lf.dense(4), lf.serial(lf.dense(4), lf.sigmoid()), merge=lf.multiply()),
        normal(5, 3), lambda p, x: dense(p[0], x) * torch.sigmoid(dense(p[1][0], x))),
    Case(lf.branch(lf.add(), lf.multiply(), merge=lf.concatenate()), SAME[:2],
        lambda p, x: torch.cat([x[0] + x[1], x[0] * x[1]], -1)),
    Case(lf.shared(BLOCK), (normal(5, 3), normal(2, 3, seed=1)),
        lambda p, x: (dense_relu_dense(p, x[0]), dense_relu_dense(p, x[1]))),
    Case(lf.repeat(3, lf.serial(lf.dense(3), lf.tanh())), normal(5, 3), lambda p, x: torch.tanh(
            dense(p[2][0], torch.tanh(dense(p[1][0], torch.tanh(dense(p[0][0], x))))))),
    Case(lf.frozen(BLOCK), normal(5, 3), lambda p, x: dense_relu_dense(p.params, x)),
    Case(lf.serial(lf.frozen(lf.dense(4)), lf.tanh(), lf.dense(2), lf.frozen(lf.dense(6))),
        normal(5, 3),
        lambda p, x: dense(p[3].params, dense(p[2], torch.tanh(dense(p[0].params, x))))),
    Case(lf.checkpointed(BLOCK), normal(5, 3), dense_relu_dense),
    Case(COUPLED, normal(5, 6), coupled),
    Case(lf.reversible((lf.dense(2), lf.dense(3))), (normal(5, 2), normal(5, 3, seed=1))),
    Case(lf.fixed_point(AFFINE, shape=(4,)), normal(5, 3), solved),
    Case(lf.fixed_point(AFFINE, shape=(4,), solver="iteration", max_steps=200), normal(5, 3),
        solved),
    Case(lf.ode(FIELD, method="midpoint", steps=2), normal(5, 3), midpoints),
    Case(lf.ode(lf.serial(lf.concatenate(), FIELD), steps=2, time_dim=-1), normal(5, 3)),
    Case(lf.scan(lf.rnn_cell(4)), normal(5, 6, 3), scanned),
    Case(lf.scan(lf.lstm_cell(4), reverse=True), normal(5, 6, 3)),
    Case(lf.graph(centred, init=drawn), normal(5, 3), lambda p, x: centred(x, **p)),
    Case(lf.graph(selected), (normal(5, 3), normal(1, 3, seed=1), normal(5, 3, seed=2) > 0),
        lambda p, x: selected(*x)),
    Case(lf.in_dtype(BLOCK, torch.float64), normal(5, 3), dense_relu_dense),
    Case(lf.in_dtype(BLOCK, torch.float64, torch.float64), normal(5, 3), dense_relu_dense),
]  # fmt: skip
