"""Dense layers, and compositions of the first layers."""

from torch import nn
from torch.nn.functional import cosine_similarity

import lincoln_fn as lf
from helpers.cases.case import Case, by_module, normal
from lincoln_fn.initializers import constant
from lincoln_fn.initializers import normal as normal_init


def cosines(params, x):
    a, b = x[0].unsqueeze(-2), x[1].unsqueeze(-3)
    return params.log_scale.exp() * cosine_similarity(a, b, dim=-1)


CASES = [
    Case(lf.dense(4), normal(5, 3), by_module(nn.Linear(3, 4))),
    Case(lf.dense(4), normal(3), by_module(nn.Linear(3, 4))),
    Case(lf.dense(4), normal(2, 5, 3), by_module(nn.Linear(3, 4))),
    # Weights of few outputs lie by columns.
    Case(lf.dense(4), normal(5, 17), by_module(nn.Linear(17, 4))),
    Case(lf.dense(4, bias=False), normal(5, 3), by_module(nn.Linear(3, 4, bias=False))),
    Case(lf.dense(4, weight_init=normal_init(0.01), bias_init=constant(0.5)), normal(5, 3),
        by_module(nn.Linear(3, 4))),
    Case(lf.linear_head(4), normal(5, 3), lambda params, x: (x, params.weight.mT),
        predict_is_forward=False),
    Case(lf.cosine_similarities(), (normal(4, 3), normal(5, 3, seed=1)), cosines),
    Case(lf.cosine_similarities(2.0), (normal(2, 4, 3), normal(2, 5, 3, seed=1)), cosines),
    Case(lf.bias(), normal(5, 3), lambda params, x: x + params.bias),
    Case(lf.bias(bias_init=constant(0.5)), normal(2, 5, 3), lambda params, x: x + params.bias),
    Case(lf.serial(), normal(5, 3), lambda params, x: x),
    Case(lf.serial(lf.dense(4), lf.sigmoid(), lf.dense(6), lf.log_softmax()), normal(5, 3),
        by_module(nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 6), nn.LogSoftmax(-1)),
            {"0.weight": lambda p: p[0].weight.mT, "0.bias": lambda p: p[0].bias,
                "2.weight": lambda p: p[2].weight.mT, "2.bias": lambda p: p[2].bias})),
    Case(lf.serial(lf.tanh(), lf.serial(lf.dense(4), lf.relu()), lf.dense(2)), normal(5, 3),
        by_module(
            nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2)), {
                "1.0.weight": lambda p: p[1][0].weight.mT, "1.0.bias": lambda p: p[1][0].bias,
                "2.weight": lambda p: p[2].weight.mT, "2.bias": lambda p: p[2].bias})),
]  # fmt: skip
