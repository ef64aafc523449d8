"""Attention, the transformer blocks, and the combinators that they are made of."""

import math

import torch
from torch import nn
from torch.func import functional_call

import lincoln_fn as lf
from helpers.cases.case import Case, normal, torch_names
from helpers.cases.embedding import rotated


def allowed(*shape, seed=0):
    """Draw a mask, True where attention is allowed, with the first key always so."""
    first = torch.arange(shape[-1]) == 0
    return lf.keys.bernoulli(lf.Key(3000 + seed), shape, 0.6) | first


def attend(is_causal=False, scale=None):
    def run(params, x):
        query, key, value, mask = x if len(x) == 4 else (*x, None)
        if is_causal and mask is not None:
            past = torch.ones(query.shape[-2], key.shape[-2]).tril() > 0
            mask = mask & past if mask.dtype is torch.bool else mask.masked_fill(~past, -torch.inf)
        return nn.functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal and mask is None, scale=scale
        )

    return run


def heads(num_heads, num_kv_heads=None, is_causal=False, window=None, softcap=None, scale=None):
    """Compute head after head, query after query, as the formula has it."""

    def run(params, x):
        query, key, value, mask = x if len(x) == 4 else (*x, None)
        shared = num_heads // (num_kv_heads or num_heads)
        n, m = query.shape[-1] // num_heads, value.shape[-1] * shared // num_heads
        length, key_length = query.shape[-2], key.shape[-2]
        place = torch.arange(length)[:, None] + key_length - length
        distance = place - torch.arange(key_length)
        seen = torch.ones(length, key_length, dtype=torch.bool)
        seen = seen & (distance >= 0) if is_causal else seen
        seen = seen & (distance.abs() < window) if window else seen
        outputs = []
        for h in range(num_heads):
            k, v = (
                part[..., (h // shared) * size : (h // shared + 1) * size]
                for part, size in ((key, n), (value, m))
            )
            z = query[..., h * n : (h + 1) * n] @ k.mT * (n**-0.5 if scale is None else scale)
            z = z if softcap is None else softcap * (z / softcap).tanh()
            allowed = seen
            if mask is not None:
                full = mask.expand(*query.shape[:-2], num_heads, length, key_length)
                own = full[..., h, :, :]
                allowed = seen & own if own.dtype is torch.bool else seen
                z = z if own.dtype is torch.bool else z + own
            weights = z.masked_fill(~allowed, -1e30).softmax(-1) * allowed.any(-1, keepdim=True)
            outputs.append(weights @ v)
        return torch.cat(outputs, -1)

    return run


def grouped(num_heads, num_kv_heads, turn=None, norm=None, **options):
    """Project, norm, turn, attend and project; `norm` and `turn` are formulas on heads."""
    norm, turn = norm or (lambda params, h: h), turn or (lambda params, h: h)
    attend_heads = heads(num_heads, num_kv_heads, **options)

    def run(params, x):
        x = x if isinstance(x, tuple) else (x,)
        if len(x) > 2 and x[2] is not None and x[2].is_floating_point():
            query, key, value, mask, positions = (*x, None, None)[:5]
        else:
            query, mask, positions = (*x, None, None)[:3]
            key = value = query
        q, k, v = (
            s @ p.weight if p.bias is None else s @ p.weight + p.bias
            for s, p in ((query, params.query), (key, params.key), (value, params.value))
        )
        sides = ((q, num_heads, params.query_norm), (k, num_kv_heads, params.key_norm))
        sides = [
            norm(p, s.unflatten(-1, (count, -1)).transpose(-3, -2)) for s, count, p in sides
        ]  # fmt: skip
        positions = None if positions is None else positions.unsqueeze(-2)
        q, k = (turn((), s if positions is None else (s, positions)) for s in sides)
        q, k = (s.transpose(-3, -2).flatten(-2) for s in (q, k))
        if mask is not None and mask.ndim == query.ndim - 1:
            mask = mask[..., None, None, :]
        y = attend_heads((), (q, k, v, mask)) @ params.output.weight
        return y if params.output.bias is None else y + params.output.bias

    return run


def root_mean_square_norm(params, x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * params.weight


def gated(activation):
    def run(params, x):
        def dense(p, h):
            return h @ p.weight if p.bias is None else h @ p.weight + p.bias

        return dense(params.down, activation(dense(params.gate, x)) * dense(params.up, x))

    return run


def linear_biases(slopes):
    def run(params, x):
        place = torch.arange(x.shape[-2]).to(x.dtype)
        bias = torch.stack([-m * (place[:, None] - place).abs() for m in slopes])
        return bias + 0 * x.sum((-2, -1))[..., None, None, None]

    return run


def buckets(max_distance, bidirectional=True):
    """Look up each pair of positions for itself."""

    def run(params, x):
        count = len(params.weight) // (2 if bidirectional else 1)
        single = count // 2

        def bucket(distance):  # of the key from the query
            before = max(-distance, 0)
            first = count if bidirectional and distance > 0 else 0
            d = abs(distance) if bidirectional else before
            if d < single:
                return first + d
            share = math.log(d / single) / math.log(max_distance / single)
            return first + min(single + int(share * (count - single)), count - 1)

        n = x.shape[-2]
        rows = torch.stack([
            torch.stack([params.weight[bucket(j - i)] for j in range(n)]) for i in range(n)
        ])  # fmt: skip
        return rows.movedim(-1, 0) + 0 * x.sum((-2, -1))[..., None, None, None]

    return run


def forbidden(mask, query, key, heads, is_causal=False):
    """Give a mask the shape that torch.nn.MultiheadAttention has it in; True is where not to."""
    mask = mask[:, None, None] if mask is not None and mask.ndim == 2 else mask
    if is_causal:
        past = torch.ones(query.shape[1], key.shape[1]).tril() > 0
        mask = past if mask is None else mask & past
    if mask is None:
        return None
    full = mask.expand(len(query), heads, query.shape[1], key.shape[1]).flatten(0, 1)
    return ~full if full.dtype is torch.bool else full


# By constructor: torch's class, how many inputs there are, and by the name of a mask the query and
# the key that it is of.
KINDS = {
    lf.multi_head_attention: (nn.MultiheadAttention, 3, {"attn_mask": (0, 1)}),
    lf.transformer_encoder_block: (nn.TransformerEncoderLayer, 1, {"src_mask": (0, 0)}),
    lf.transformer_decoder_block: (
        nn.TransformerDecoderLayer, 2, {"tgt_mask": (0, 0), "memory_mask": (0, 1)}),
}  # fmt: skip
SAME = ("bias", "dim_feedforward", "activation", "layer_norm_eps", "norm_first")


def by_torch(layer, *sizes):
    """Run torch's module of a layer's arguments, without dropout, of features of these sizes."""
    given, (of, count, names) = layer.spec.arguments, KINDS[layer.spec.of]
    heads, is_batch_first = given["num_heads"], given.get("batch_first", True)
    options = {name: given[name] for name in SAME if name in given}
    options |= dict(zip(("kdim", "vdim"), sizes[1:], strict=False))
    module = of(sizes[0], heads, dropout=0.0, batch_first=True, **options)

    def turned(part):
        return part if is_batch_first else part.transpose(0, 1)

    def run(params, x):
        x = x if isinstance(x, tuple) else (x,)
        inputs, masks = x[:count], x[count:]
        if len(x) < count:  # self-attention, of x and a mask
            inputs, masks = 3 * x[:1], x[1:]
        inputs, causal = [*map(turned, inputs)], given["is_causal"]
        arguments = {"need_weights": False} if count == 3 else {}
        for (name, (q, k)), mask in zip(names.items(), (*masks, None, None), strict=False):
            arguments[name] = forbidden(mask, inputs[q], inputs[k], heads, causal)
            causal = False
        y = functional_call(module, torch_names(params, layer), tuple(inputs), arguments)
        return turned(y[0] if count == 3 else y)

    run.module = module
    return run


def beside(layer, x, note=""):
    """Pair a layer with torch's module of the same arguments."""
    parts = x[:3] if isinstance(x, tuple) and len(x) > 2 else (x[0] if isinstance(x, tuple) else x,)
    sizes = [part.shape[-1] for part in parts] if layer.spec.of is MHA else [parts[0].shape[-1]]
    return Case(layer, x, by_torch(layer, *sizes), note=note)


def stacked(block, count):
    """Run torch's block once for each of the params of a stack."""

    def run(params, x):
        for i in range(count):
            h = block(params[i], x)
            x = (h, *x[1:]) if isinstance(x, tuple) else h
        return h

    return run


# Batch 2, length 5, key length 4, features 6 (of values 3, of keys 7 in multi-head attention).
QKV = (normal(2, 5, 6), normal(2, 4, 6, seed=1), normal(2, 4, 3, seed=2))
CROSS = (normal(2, 5, 6), normal(2, 4, 7, seed=1), normal(2, 4, 3, seed=2))
X, MEMORY = normal(2, 5, 6), normal(2, 4, 6, seed=1)
LONG = normal(8, 9, 6, seed=9)
# Four heads of 3 features in queries; two heads of 3 and of 2 in keys and values.
GROUPED = (normal(2, 5, 12), normal(2, 4, 6, seed=1), normal(2, 4, 4, seed=2))
LATER = (normal(2, 3, 12), normal(2, 5, 6, seed=1), normal(2, 5, 6, seed=2))
HEADS = lf.attention_heads
GQA, ROTATED = lf.grouped_query_attention, rotated()
SDPA, MHA = lf.scaled_dot_product_attention, lf.multi_head_attention
ENCODER, DECODER = lf.transformer_encoder_block, lf.transformer_decoder_block
ENCODING, DECODING = (by_torch(made(2, 7, 0.0), 6) for made in (ENCODER, DECODER))

CASES = [
    Case(SDPA(), QKV, attend()),
    Case(SDPA(scale=0.3), QKV, attend(scale=0.3)),
    Case(SDPA(is_causal=True), QKV, attend(is_causal=True), note="fewer keys"),
    Case(SDPA(is_causal=True), (QKV[1], QKV[0], normal(2, 5, 3)), attend(is_causal=True)),
    Case(SDPA(), (*QKV, None), attend()),
    Case(SDPA(), (*QKV, allowed(2, 5, 4)), attend()),
    Case(SDPA(), (*QKV, allowed(2, 1, 4)), attend(), note="keys"),
    Case(SDPA(), (*QKV, normal(2, 5, 4, seed=4)), attend(), note="added"),
    Case(SDPA(is_causal=True), (*QKV, allowed(5, 4)), attend(is_causal=True)),
    Case(SDPA(is_causal=True), (*QKV, normal(1, 5, 4, seed=4)), attend(is_causal=True),
        note="added"),
    Case(SDPA(), (normal(5, 6), normal(4, 6, seed=1), normal(4, 3, seed=2)), attend()),
    Case(SDPA(),
        (normal(2, 3, 5, 6), normal(2, 3, 4, 6, seed=1), normal(2, 3, 4, 7), allowed(2, 1, 1, 4)),
        attend()),
    Case(lf.alibi(2), X, linear_biases([2**-4, 2**-8])),
    Case(lf.alibi(3), normal(4, 2), linear_biases([2**-4, 2**-8, 2**-2])),
    Case(lf.relative_position_bias(3, 8, 6), normal(2, 9, 4), buckets(6)),
    Case(lf.relative_position_bias(2, 5, 7, bidirectional=False), normal(9, 4),
        buckets(7, bidirectional=False)),
    Case(HEADS(2), (X, MEMORY, MEMORY), heads(2)),
    Case(HEADS(4, 2), GROUPED, heads(4, 2)),
    Case(HEADS(4, 1), (GROUPED[0], normal(2, 4, 3), normal(2, 4, 5)), heads(4, 1)),
    Case(HEADS(4, 2, is_causal=True), LATER, heads(4, 2, True), note="later queries"),
    Case(HEADS(4, 2, is_causal=True), GROUPED, heads(4, 2, True), note="fewer keys"),
    Case(HEADS(4, 2, is_causal=True, sliding_window=2), LATER, heads(4, 2, True, 2)),
    Case(HEADS(4, 2, sliding_window=2), LATER, heads(4, 2, False, 2)),
    Case(HEADS(4, 2, softcap=0.5, scale=0.8), GROUPED, heads(4, 2, softcap=0.5, scale=0.8)),
    Case(HEADS(4, 2, is_causal=True), (*LATER, allowed(2, 1, 1, 5)), heads(4, 2, True)),
    Case(HEADS(4, 2, is_causal=True, sliding_window=2, softcap=0.5),
        (*LATER, normal(4, 3, 5, seed=4)), heads(4, 2, True, 2, 0.5), note="added"),
    Case(HEADS(4, 2), tuple(part[0] for part in GROUPED), heads(4, 2)),
    Case(HEADS(4, 2, dropout=0.3), GROUPED, predict_is_forward=False),
    Case(GQA(2, 1, head_dim=4), X, grouped(2, 1, ROTATED, is_causal=True)),
    Case(GQA(4, 2, head_dim=6, qk_norm=lf.rms_norm(eps=1e-6), bias=True, output_bias=False), X,
        grouped(4, 2, ROTATED, root_mean_square_norm, is_causal=True)),
    Case(GQA(4, 2, head_dim=4, sliding_window=2, softcap=0.5, scale=0.8, bias=True),
        (X, allowed(2, 5), torch.tensor([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]])),
        grouped(4, 2, ROTATED, is_causal=True, window=2, softcap=0.5, scale=0.8), note="padding"),
    Case(GQA(2, 1, positions=None, is_causal=False), (X, normal(2, 5, seed=4)), grouped(2, 1),
        note="added padding"),
    Case(GQA(2, 2, head_dim=4), (X, None, None), grouped(2, 2, ROTATED, is_causal=True)),
    Case(GQA(4, 2, head_dim=2, is_causal=False), (*CROSS, normal(4, 5, 4, seed=4)),
        grouped(4, 2, ROTATED), note="added"),
    Case(GQA(2, positions=None, is_causal=False), CROSS, grouped(2, 2)),
    Case(GQA(2, 1, head_dim=4), X[0], grouped(2, 1, ROTATED, is_causal=True)),
    Case(GQA(2, 1, head_dim=4, dropout=0.3), X, predict_is_forward=False),
    Case(lf.swiglu(7), normal(2, 5, 6), gated(nn.functional.silu)),
    Case(lf.swiglu(7, bias=True), normal(6), gated(nn.functional.silu)),
    Case(lf.geglu(7), normal(5, 6), gated(nn.functional.gelu)),
    Case(lf.geglu(7, "tanh", bias=True), normal(5, 6),
        gated(lambda x: nn.functional.gelu(x, approximate="tanh"))),
    beside(MHA(2), X),
    beside(MHA(3, bias=False), X),
    beside(MHA(2, is_causal=True), X),
    beside(MHA(2), (X, None)),
    beside(MHA(2), (X, allowed(2, 5)), note="padding"),
    beside(MHA(2), (X, normal(2, 5, seed=4)), note="added padding"),
    beside(MHA(2, is_causal=True), (X, allowed(2, 5))),
    beside(MHA(2), (X, allowed(1, 1, 5, 5))),
    beside(MHA(3), (X, normal(2, 3, 5, 5, seed=4)), note="added"),
    # Of so many rows, one product makes query, key and value.
    beside(MHA(2), LONG),
    beside(MHA(3, bias=False), LONG),
    beside(MHA(2), (LONG, normal(8, 9, seed=4)), note="added padding"),
    beside(MHA(2), (LONG, normal(8, 4, 6, seed=7), normal(8, 4, 6, seed=8))),
    beside(MHA(2), CROSS),
    beside(MHA(2), (X, MEMORY, MEMORY)),
    beside(MHA(2), (*CROSS, allowed(2, 4)), note="padding"),
    beside(MHA(3), (*CROSS, normal(1, 3, 1, 4, seed=4)), note="added"),
    beside(MHA(2), normal(5, 6)),
    Case(MHA(2, is_causal=True), (normal(5, 6), normal(4, 7), normal(4, 3)),
        predict_is_forward=True),
    beside(MHA(2, batch_first=False), X),
    beside(MHA(3, batch_first=False),
        (normal(5, 2, 6), normal(4, 2, 7), normal(4, 2, 3), normal(2, 4, seed=4)),
        note="added padding"),
    Case(MHA(2, dropout=0.3), (X, allowed(2, 5)), predict_is_forward=False),
    Case(MHA(2, dropout=0.3), CROSS, predict_is_forward=False),
    Case(lf.select(1), QKV, lambda params, x: x[1] * 1),
    Case(lf.select(2, 0, 2), (*QKV, allowed(2, 4)),
        lambda params, x: (x[2] * 1, x[0] * 1, x[2] * 1)),
    Case(lf.with_context(lf.multiply(), lf.multiply(), lf.select(0)),
        (normal(2, 3), normal(2, 3, seed=1)), lambda params, x: x[0] * x[1] * x[1]),
    Case(lf.with_context(lf.add(), lf.serial(lf.select(0, 0, 2), lf.multiply())),
        (normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)),
        lambda params, x: (x[0] + x[1] + x[2]).square() * x[2]),
    beside(ENCODER(2, 7, 0.0), X),
    beside(ENCODER(3, 7, 0.0, "gelu"), X),
    beside(ENCODER(2, 7, 0.0, norm_first=True), X),
    beside(ENCODER(2, 7, 0.0, layer_norm_eps=0.1, bias=False), X),
    beside(ENCODER(2, 7, 0.0, is_causal=True), X),
    beside(ENCODER(2, 7, 0.0), (X, allowed(2, 5)), note="padding"),
    beside(ENCODER(2, 7, 0.0), (X, normal(1, 2, 5, 5, seed=4)), note="added"),
    Case(ENCODER(2, 7), (X, allowed(2, 5)), predict_is_forward=False),
    beside(DECODER(2, 7, 0.0), (X, MEMORY)),
    beside(DECODER(2, 7, 0.0, norm_first=True), (X, MEMORY)),
    beside(DECODER(3, 7, 0.0, "gelu", bias=False), (X, MEMORY)),
    beside(DECODER(2, 7, 0.0, is_causal=False), (X, MEMORY)),
    beside(DECODER(2, 7, 0.0, norm_first=True),
        (X, MEMORY, allowed(2, 5), allowed(2, 4, seed=1)), note="padding"),
    beside(DECODER(2, 7, 0.0), (X, MEMORY, None, normal(2, 1, 5, 4, seed=4)), note="added"),
    Case(DECODER(2, 7, norm_first=True), (X, MEMORY, None, None), predict_is_forward=False),
    Case(lf.repeat(2, ENCODER(2, 7, 0.0)), X, stacked(ENCODING, 2)),
    Case(lf.with_context(*[ENCODER(2, 7, 0.0)] * 3), (X, allowed(2, 5)), stacked(ENCODING, 3)),
    Case(lf.serial(lf.parallel(lf.identity(), ENCODER(2, 7, 0.0)), DECODER(2, 7, 0.0)), (X, MEMORY),
        lambda p, x: DECODING(p[1], (x[0], ENCODING(p[0][1], x[1])))),
    Case(lf.with_context(*[DECODER(2, 7, 0.0)] * 2), (X, MEMORY, None, allowed(2, 4)),
        stacked(DECODING, 2)),
]  # fmt: skip
