"""Activations: element by element, and along an axis."""

from torch import nn

import lincoln_fn as lf
from cases.case import Case, by_module, normal

CASES = [
    Case(lf.sigmoid(), normal(5, 3), by_module(nn.Sigmoid())),
    Case(lf.tanh(), normal(5, 3), by_module(nn.Tanh())),
    Case(lf.relu(), normal(5, 3), by_module(nn.ReLU())),
    Case(lf.log_sigmoid(), normal(5, 3), by_module(nn.LogSigmoid())),
    Case(lf.softmax(), normal(5, 3), by_module(nn.Softmax(-1))),
    Case(lf.softmax(dim=0), normal(5, 3), by_module(nn.Softmax(0))),
    Case(lf.softmax(dim=1), normal(5, 3, 2), by_module(nn.Softmax(1))),
    Case(lf.softmax(), normal(5, 1), by_module(nn.Softmax(-1)), note="one class"),
    Case(lf.log_softmax(), normal(5, 3), by_module(nn.LogSoftmax(-1))),
    Case(lf.log_softmax(dim=0), normal(5, 3), by_module(nn.LogSoftmax(0))),
    Case(lf.log_softmax(dim=1), normal(5, 3, 2), by_module(nn.LogSoftmax(1))),
    Case(lf.log_softmax(), normal(5, 1), by_module(nn.LogSoftmax(-1)), note="one class"),
]
