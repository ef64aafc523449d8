"""Predictions and labels that do not belong to a loss."""

from functools import partial

import torch
from torch.nn.functional import one_hot

import lincoln_fn as lf
from helpers.wrong.given import KEY, LOGITS, NET, PARAMS, T, X, fit, step
from lincoln_fn import losses

Z = torch.tensor([[2.0, -1.0, 0.5, 3.0], [0.0, 1.0, -2.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
LOG_P = Z.log_softmax(1)
P = Z.softmax(1)
C = torch.tensor([0, 3, 1])
HOT = one_hot(C, 4)
NLL, CE, SCE = losses.nll(), losses.cross_entropy(), losses.softmax_cross_entropy()
BCE, LOG = losses.sigmoid_cross_entropy(), losses.log_loss()
ALONE = lf.Loss("mine()", lambda prediction, target: prediction.sum(), NLL.backward)
BINARY = lf.dense(1)
Y = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])


def binary(loss, target=Y, net=BINARY):
    return step(net, loss, batch=(X, target))


# What the error says of logits, by the loss on probabilities that is given them.
ON_LOGITS = {
    NLL: ("nll", "log-probabilities", "log_softmax", "softmax_cross_entropy"),
    CE: ("cross_entropy", "[0, 1]", "softmax_cross_entropy"),
}
GIVEN_LOGITS = {
    "forward": lambda loss: loss.forward(Z, C),
    "a step": lambda loss: step(LOGITS, loss),
    "fit": lambda loss: fit(net=LOGITS, loss=loss),
    "trace": lambda loss: lf.inspect.trace(LOGITS, LOGITS.init(KEY, X), X, loss, T),
}

ROWS = {
    **{f"{words[0]}: logits in {where}": (partial(call, loss), *words)
        for loss, words in ON_LOGITS.items() for where, call in GIVEN_LOGITS.items()},
    "nll: log-sigmoids in a step": (lambda: step(lf.serial(LOGITS, lf.log_sigmoid()), NLL), "nll",
        "sum to 1", "log_softmax"),
    "nll: probabilities": (lambda: NLL.forward(P, C), "nll", "log-probabilities", "log_softmax"),
    "nll: probabilities in a step": (lambda: step(lf.serial(LOGITS, lf.softmax()), NLL), "nll",
        "log-probabilities"),
    "cross_entropy: log-probabilities": (lambda: CE.forward(LOG_P, C), "cross_entropy", "[0, 1]",
        "nll"),
    "cross_entropy: percentages": (lambda: CE.forward(100 * P, C), "cross_entropy", "[0, 1]"),
    "log_loss: logits": (lambda: LOG.forward(Z[:, 0], Y[:3]), "log_loss", "[0, 1]",
        "sigmoid_cross_entropy"),
    "log_loss: logits in a step": (lambda: binary(LOG), "log_loss", "[0, 1]",
        "sigmoid_cross_entropy"),
    "log_sigmoid_loss: logits": (lambda: losses.log_sigmoid_loss().forward(Z[:, 0], Y[:3]),
        "log_sigmoid_loss", "0"),
    "kl_div: probabilities for log-probabilities": (lambda: losses.kl_div().forward(P, P), "kl_div",
        "log-probabilities"),
    "kl_div: log-probabilities as target": (lambda: losses.kl_div().forward(LOG_P, LOG_P), "kl_div",
        "target", "log_target"),
    "nll: one-hot labels": (lambda: NLL.forward(LOG_P, HOT), "nll", "target of shape (3,)",
        "(3, 4)", "argmax(1)"),
    "cross_entropy: one-hot labels": (lambda: CE.forward(P, HOT), "cross_entropy", "(3,)", "(3, 4)",
        "argmax(1)"),
    "nll: one-hot labels in a step": (lambda: step(batch=(X, one_hot(T, 4))), "nll", "(6,)",
        "(6, 4)", "argmax(1)"),
    "softmax_cross_entropy: integer one-hot": (lambda: SCE.forward(Z, HOT), "softmax_cross_entropy",
        "(3, 4)", "argmax(1)"),
    "softmax_cross_entropy: float labels": (lambda: SCE.forward(Z, C.float()),
        "softmax_cross_entropy", "class indices", "torch.float32", ".long()"),
    "nll: float labels": (lambda: NLL.forward(LOG_P, C.float()), "nll", "class indices",
        "torch.float32", ".long()"),
    "nll: labels from 1": (lambda: NLL.forward(LOG_P, C + 1), "nll", "labels from 0 to 3", "4"),
    "nll: labels from 1, in a step": (lambda: step(batch=(X, T + 1)), "nll", "labels from 0 to 3",
        "4"),
    "nll: a label of -1": (lambda: NLL.forward(LOG_P, C - 1), "nll", "labels from 0 to 3", "-1"),
    "nll: too many labels": (lambda: NLL.forward(LOG_P, T), "nll", "(3,)", "(6,)"),
    "nll: one label": (lambda: NLL.forward(LOG_P, C[0]), "nll", "(3,)", "()"),
    "nll: one example": (lambda: NLL.forward(LOG_P[0], C[0]), "nll", "(N, C)", "(4,)"),
    "nll: classes last": (
        lambda: NLL.forward(torch.zeros(2, 5, 4).log_softmax(2), torch.zeros(2, 5).long()), "nll",
        "(2, 4)", "(2, 5)"),
    "nll: prediction and target swapped": (lambda: NLL.forward(C, LOG_P), "nll",
        "prediction of a floating dtype", "int64"),
    "nll: numpy labels": (lambda: NLL.forward(LOG_P, C.numpy()), "nll", "target", "ndarray",
        "torch.as_tensor"),
    "nll: a list of labels": (lambda: NLL.forward(LOG_P, C.tolist()), "nll", "target", "list",
        "torch.tensor"),
    "nll: a number as label": (lambda: NLL.forward(LOG_P, 1), "nll", "target", "int"),
    "nll: no labels": (lambda: NLL.forward(LOG_P, None), "nll", "target", "NoneType"),
    "nll: forward's pair as prediction": (lambda: NLL.forward(NET.forward(NET.init(KEY, X), X), T),
        "nll", "prediction", "tuple"),
    "mse: a column against a row": (lambda: losses.mse().forward(torch.zeros(3, 1), torch.zeros(3)),
        "mse", "(3, 1)", "(3,)"),
    "mse: a row against a column": (lambda: losses.mse().forward(torch.zeros(3), torch.zeros(3, 1)),
        "mse", "(3,)", "(3, 1)"),
    "mse: class indices": (lambda: losses.mse().forward(Z, C), "mse", "(3, 4)", "(3,)"),
    "mse: a step of one output and (N,)": (lambda: step(BINARY, losses.mse(), batch=(X, Y)), "mse",
        "(6, 1)", "(6,)"),
    "sigmoid_cross_entropy: labels -1 and 1": (
        lambda: BCE.forward(Z[:, 0], torch.tensor([-1.0, 1, 1])), "sigmoid_cross_entropy", "0 or 1",
        "-1"),
    "sigmoid_cross_entropy: class indices": (lambda: BCE.forward(Z[:, 0], C),
        "sigmoid_cross_entropy", "0 or 1", "3"),
    "sigmoid_cross_entropy: two outputs": (lambda: binary(BCE, net=lf.dense(2)),
        "sigmoid_cross_entropy", "(6, 2)", "(6,)"),
    "soft_margin: labels 0 and 1": (lambda: losses.soft_margin().forward(Z[:, 0], Y[:3]),
        "soft_margin", "-1 or 1", "0"),
    "hinge_embedding: labels 0 and 1": (lambda: losses.hinge_embedding().forward(P[:, 0], Y[:3]),
        "hinge_embedding", "-1 or 1", "0"),
    "triplet_margin: a tensor": (lambda: losses.triplet_margin().forward(Z, None), "triplet_margin",
        "anchor", "float32[3, 4]"),
    "triplet_margin: a list": (lambda: losses.triplet_margin().forward([Z, Z, Z], None),
        "triplet_margin", "anchor"),
    "triplet_margin: a target": (lambda: losses.triplet_margin().forward((Z, Z, Z), C),
        "triplet_margin", "target None"),
    "backward: the value for the cache": (lambda: NLL.backward(NLL.forward(LOG_P, C)), "nll",
        "cache"),
    "backward: another loss's cache": (lambda: NLL.backward(SCE.forward(Z, C)[1]), "nll", "cache"),
    "a step's loss of each example": (lambda: step(loss=losses.nll(reduction="none")), "nll",
        "one number", "reduction='mean'"),
    "a loss that returns the value alone": (lambda: step(loss=ALONE),
        "mine(): expected forward to return (value, cache), got a Tensor"),
    "value_and_gradient of a loss that returns the value alone": (
        lambda: lf.value_and_gradient(NET, ALONE)(PARAMS, (X, T)),
        "mine(): expected forward to return (value, cache), got a Tensor"),
    "reduction: mean without quotes": (lambda: losses.nll(reduction=torch.mean), "nll", "reduction",
        "mean"),
    "weight: a list": (lambda: losses.nll(weight=[1.0, 2.0]), "nll", "weight", "tensor"),
    "weight: as many as examples": (lambda: losses.nll(weight=torch.ones(6)).forward(LOG_P, C),
        "nll", "weight of shape (4,)", "(6,)"),
}  # fmt: skip
