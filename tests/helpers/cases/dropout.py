"""Dropout of places and of channels; the reference is the formula, with the mask written out."""

import math

import torch

import lincoln_fn as lf
from helpers.cases.case import Case, normal


def scaled(p, *mask_shape):
    def reference(params, x):
        mask = lf.keys.bernoulli(params.key, mask_shape, 1 - p)
        return x * mask / (1 - p) if p < 1 else x * 0

    return reference


def to_alpha(p, *mask_shape):
    dropped = -1.7580993408473766
    a = 1 / math.sqrt((1 - p) * (1 + p * dropped**2)) if p < 1 else 0

    def reference(params, x):
        mask = lf.keys.bernoulli(params.key, mask_shape, 1 - p)
        return a * torch.where(mask, x, dropped) - a * p * dropped

    return reference


CASES = [
    Case(lf.dropout(), normal(5, 3), scaled(0.5, 5, 3)),
    Case(lf.dropout(0.0), normal(5, 3), scaled(0.0, 5, 3), predict_is_forward=True),
    Case(lf.dropout(1.0), normal(5, 3), scaled(1.0, 5, 3)),
    Case(lf.dropout1d(), normal(5, 3, 4), scaled(0.5, 5, 3, 1)),
    Case(lf.dropout1d(), normal(7, 4), scaled(0.5, 7, 1)),
    Case(lf.dropout2d(0.3), normal(5, 3, 4, 2), scaled(0.3, 5, 3, 1, 1)),
    Case(lf.dropout3d(0.6), normal(5, 3, 4, 2, 6), scaled(0.6, 5, 3, 1, 1, 1)),
    Case(lf.alpha_dropout(), normal(5, 3), to_alpha(0.5, 5, 3)),
    Case(lf.alpha_dropout(1.0), normal(5, 3), to_alpha(1.0, 5, 3)),
    Case(lf.stochastic_depth(0.4), normal(5, 3, 2), scaled(0.4, 5, 1, 1)),
    Case(lf.stochastic_depth(0.4, "batch"), normal(5, 3), scaled(0.4, 1, 1)),
    Case(lf.feature_alpha_dropout(0.3), normal(5, 3), to_alpha(0.3, 5, 3)),
    Case(lf.feature_alpha_dropout(0.3), normal(5, 3, 4, 2), to_alpha(0.3, 5, 3, 1, 1)),
]
