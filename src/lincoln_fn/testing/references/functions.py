"""The functions that a course's table may name, and torch's own."""

from torch import exp, log, relu, sigmoid, softmax, sqrt, tanh

from lincoln_fn.testing.references.convolutions import avg_pool, conv, max_pool
from lincoln_fn.testing.references.dense import affine, embedding, linear
from lincoln_fn.testing.references.norms import batch_norm, group_norm, layer_norm
from lincoln_fn.testing.references.recurrent import (
    linear_softmax_loss,
    linear_svm_loss,
    lstm,
    lstm_step,
    rnn,
    rnn_step,
    softmax_loss,
    svm_loss,
    temporal_softmax_loss,
)

__all__ = [
    "affine", "avg_pool", "batch_norm", "conv", "embedding", "exp", "group_norm", "layer_norm",
    "linear", "linear_softmax_loss", "linear_svm_loss", "log", "lstm", "lstm_step", "max_pool",
    "relu", "rnn", "rnn_step", "sigmoid", "softmax", "softmax_loss", "sqrt", "svm_loss", "tanh",
    "temporal_softmax_loss",
]  # fmt: skip
