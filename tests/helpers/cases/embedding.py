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


def learned_positions(params, x):
    return x + params.weight[: x.shape[-2]]


def fixed_positions(params, x):
    length, features = x.shape[-2:]
    table = torch.empty(length, features, dtype=x.dtype)
    for position in range(length):
        for feature in range(features):
            wave = math.cos if feature % 2 else math.sin
            table[position, feature] = wave(position / 10000 ** (feature // 2 * 2 / features))
    return x + table


def pair(*leading):
    return normal(*leading, 3), normal(*leading, 6, seed=1)


CASES = [
    Case(lf.embedding(7, 3), INDICES, by_module(nn.Embedding(7, 3), WEIGHT)),
    Case(lf.embedding(7, 3), INDICES.int(), by_module(nn.Embedding(7, 3), WEIGHT), note="int32"),
    Case(lf.embedding(7, 3), torch.tensor(4), by_module(nn.Embedding(7, 3), WEIGHT)),
    Case(lf.embedding(7, 3, padding_idx=1), INDICES, by_module(nn.Embedding(7, 3, 1), WEIGHT)),
    Case(lf.positional_embedding(6), normal(5, 4, 3), learned_positions),
    Case(lf.positional_embedding(4), normal(5, 2, 4, 3), learned_positions),
    Case(lf.positional_embedding(6), normal(4, 3), learned_positions),
    Case(lf.sinusoidal_positions(), normal(2, 5, 4), fixed_positions),
    Case(lf.sinusoidal_positions(), normal(5, 3), fixed_positions),
    Case(lf.bilinear(4), pair(5), by_module(nn.Bilinear(3, 6, 4), BILINEAR)),
    Case(lf.bilinear(4), pair(2, 5), by_module(nn.Bilinear(3, 6, 4), BILINEAR)),
    Case(lf.bilinear(4), pair(), by_module(nn.Bilinear(3, 6, 4), BILINEAR)),
    Case(
        lf.bilinear(4, bias=False),
        pair(5),
        by_module(nn.Bilinear(3, 6, 4, bias=False), WEIGHT),
    ),
]
