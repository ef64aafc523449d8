"""Embeddings, positions, and the bilinear layer."""

import math

import torch
from torch import nn

import lincoln_fn as lf
from helpers.cases.case import Case, by_module, normal

WEIGHT = {"weight": lambda p: p.weight}
BILINEAR = {**WEIGHT, "bias": lambda p: p.bias}
# Some indices more than once, some never. The padding index, whose gradient is withheld, is not
# among them: central differences would find it. test_embedding.py has it.
INDICES = torch.tensor([[4, 2, 4, 0], [2, 5, 6, 4]])

MASK = torch.tensor([True, False, True])
POSITIONS = torch.tensor([[[3, 1, 2, 0, 9]], [[0, 0, 1, 2, 3]]])


def learned_positions(params, x):
    return x + params.weight[: x.shape[-2]]


def token_in_front(params, x):
    return torch.cat((params.weight.expand(*x.shape[:-2], 1, -1), x), -2)


def fixed_positions(params, x):
    length, features = x.shape[-2:]
    table = torch.empty(length, features, dtype=x.dtype)
    for position in range(length):
        for feature in range(features):
            wave = math.cos if feature % 2 else math.sin
            table[position, feature] = wave(position / 10000 ** (feature // 2 * 2 / features))
    return x + table


def straight_through(params, x):
    """Quantise by `detach`, with the nearest code of all differences."""
    k = (x.unsqueeze(-2) - params.weight).square().sum(-1).argmin(-1)
    q = params.weight[k]
    return x + (q - x).detach(), x * 1, q


def waves_of(params, t):
    dtype = t.dtype if t.is_floating_point() else torch.float32
    angles = [t.double() * 10000 ** (-i / 3) for i in range(3)]
    return torch.stack([f(a) for f in (torch.cos, torch.sin) for a in angles], -1).to(dtype)


def of_tokens(params, x):
    logits, tokens, mask = (*x, None)[:3]
    y = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return y if mask is None else y * mask


def rotated(n=None, interleaved=False, frequency=lambda i, n: 10000 ** (-2 * i / n)):
    """Turn each pair as one complex number."""

    def run(params, x):
        heads, positions = x if isinstance(x, tuple) else (x, None)
        size = heads.shape[-1] if n is None else n
        t = torch.arange(heads.shape[-2]) if positions is None else positions
        i = torch.arange(size // 2).double()
        angle = t.double().unsqueeze(-1) * frequency(i, size)
        pairs, rest = heads[..., :size], heads[..., size:]
        pairs = pairs.unflatten(-1, (-1, 2) if interleaved else (2, -1))
        pairs = pairs if interleaved else pairs.mT
        turn = torch.polar(torch.ones_like(angle), angle)
        turned = torch.view_as_complex(pairs.contiguous()) * turn
        y = torch.view_as_real(turned).to(heads.dtype)
        return torch.cat([(y if interleaved else y.mT).flatten(-2), rest], -1)

    return run


def pair(*leading):
    return normal(*leading, 3), normal(*leading, 6, seed=1)


CASES = [
    Case(lf.embedding(7, 3), INDICES, by_module(nn.Embedding(7, 3), WEIGHT)),
    Case(lf.embedding(7, 3), INDICES.int(), by_module(nn.Embedding(7, 3), WEIGHT), note="int32"),
    Case(lf.embedding(7, 3), torch.tensor(4), by_module(nn.Embedding(7, 3), WEIGHT)),
    Case(lf.embedding(7, 3, padding_idx=1), INDICES, by_module(nn.Embedding(7, 3, 1), WEIGHT)),
    Case(lf.positional_embedding(6), normal(5, 4, 3), learned_positions),
    Case(lf.positional_embedding(6), normal(4, 3), learned_positions),
    Case(lf.class_token(), normal(5, 4, 3), token_in_front),
    Case(lf.timestep_embedding(6), 9 * normal(4), waves_of),
    Case(lf.timestep_embedding(6), torch.tensor([[3, 700]])),
    Case(lf.vector_quantize(5), normal(2, 3, 4), straight_through),
    Case(lf.vector_quantize(5, decay=0.9), normal(6, 4)),
    Case(lf.sinusoidal_positions(), normal(2, 5, 4), fixed_positions),
    Case(lf.rotary_embedding(), normal(2, 3, 5, 6), rotated()),
    Case(lf.rotary_embedding(rotary_dim=4), normal(2, 5, 7), rotated(4), note="odd"),
    Case(lf.rotary_embedding(interleaved=True), normal(2, 5, 6), rotated(interleaved=True)),
    Case(lf.rotary_embedding(100.0, rotary_dim=2, interleaved=True),
        (normal(2, 3, 5, 6), POSITIONS), rotated(2, True, lambda i, n: 100.0 ** (-2 * i / n))),
    Case(lf.rotary_embedding(), (normal(2, 3, 5, 6), None), rotated()),
    Case(lf.rotary_embedding(scaling=lf.rope_scaling.linear(2.0)),
        (normal(2, 5, 6), torch.tensor([3, 4, 5, 6, 7])),
        rotated(frequency=lambda i, n: 10000 ** (-2 * i / n) / 2)),
    Case(lf.rotary_embedding(scaling=lf.rope_scaling.yarn(4.0, 4)), normal(2, 5, 6)),
    Case(lf.token_log_probs(), (normal(2, 3, 7), INDICES[:, :3]), of_tokens),
    Case(lf.token_log_probs(), (normal(3, 7), INDICES[0, :3], MASK), of_tokens),
    Case(lf.bilinear(4), pair(5), by_module(nn.Bilinear(3, 6, 4), BILINEAR)),
    Case(lf.bilinear(4), pair(), by_module(nn.Bilinear(3, 6, 4), BILINEAR)),
    Case(lf.bilinear(4, bias=False), pair(5), by_module(nn.Bilinear(3, 6, 4, bias=False), WEIGHT)),
]  # fmt: skip
