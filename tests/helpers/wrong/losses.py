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

# A loss, a prediction and a target for it, and what the error says beside the loss.
FORWARD = {
    "nll: probabilities": (NLL, P, C, "log-probabilities", "log_softmax"),
    "cross_entropy: log-probabilities": (CE, LOG_P, C, "[0, 1]", "nll"),
    "cross_entropy: percentages": (CE, 100 * P, C, "[0, 1]"),
    "log_loss: logits": (LOG, Z[:, 0], Y[:3], "[0, 1]", "sigmoid_cross_entropy"),
    "log_sigmoid_loss: logits": (losses.log_sigmoid_loss(), Z[:, 0], Y[:3], "0"),
    "kl_div: probabilities for log-probabilities": (losses.kl_div(), P, P, "log-probabilities"),
    "kl_div: log-probabilities as target": (losses.kl_div(), LOG_P, LOG_P, "target", "log_target"),
    "nll: one-hot labels": (NLL, LOG_P, HOT, "target of shape (3,)", "(3, 4)", "argmax(1)"),
    "cross_entropy: one-hot labels": (CE, P, HOT, "(3,)", "(3, 4)", "argmax(1)"),
    "softmax_cross_entropy: integer one-hot": (SCE, Z, HOT, "(3, 4)", "argmax(1)"),
    "nll: classes last":
        (NLL, torch.zeros(2, 5, 4).log_softmax(2), torch.zeros(2, 5).long(), "(2, 4)", "(2, 5)"),
    "nll: numpy labels": (NLL, LOG_P, C.numpy(), "target", "ndarray", "torch.as_tensor"),
    "nll: a number as label": (NLL, LOG_P, 1, "target", "int"),
    "nll: no labels": (NLL, LOG_P, None, "target", "NoneType"),
    "nll: forward's pair as prediction":
        (NLL, NET.forward(NET.init(KEY, X), X), T, "prediction", "tuple"),
    "mse: a column against a row":
        (losses.mse(), torch.zeros(3, 1), torch.zeros(3), "(3, 1)", "(3,)"),
    "mse: a row against a column":
        (losses.mse(), torch.zeros(3), torch.zeros(3, 1), "(3,)", "(3, 1)"),
    "mse: class indices": (losses.mse(), Z, C, "(3, 4)", "(3,)"),
    "soft_margin: labels 0 and 1": (losses.soft_margin(), Z[:, 0], Y[:3], "-1 or 1", "0"),
    "hinge_embedding: labels 0 and 1": (losses.hinge_embedding(), P[:, 0], Y[:3], "-1 or 1", "0"),
    "triplet_margin: a tensor": (losses.triplet_margin(), Z, None, "anchor", "float32[3, 4]"),
    "triplet_margin: a list": (losses.triplet_margin(), [Z, Z, Z], None, "anchor"),
    "triplet_margin: a target": (losses.triplet_margin(), (Z, Z, Z), C, "target None"),
    "weight: as many as examples":
        (losses.nll(weight=torch.ones(6)), LOG_P, C, "nll", "weight of shape (4,)", "(6,)"),
}  # fmt: skip
ROWS = {
    **{
        f"{words[0]}: logits in {where}": (partial(call, loss), *words)
        for loss, words in ON_LOGITS.items()
        for where, call in GIVEN_LOGITS.items()
    },
    "nll: log-sigmoids in a step": (
        lambda: step(lf.serial(LOGITS, lf.log_sigmoid()), NLL),
        "nll", "sum to 1", "log_softmax",
    ),
    "nll: probabilities in a step": (
        lambda: step(lf.serial(LOGITS, lf.softmax()), NLL),
        "nll", "log-probabilities",
    ),
    "log_loss: logits in a step": (
        lambda: binary(LOG),
        "log_loss", "[0, 1]", "sigmoid_cross_entropy",
    ),
    "nll: one-hot labels in a step": (
        lambda: step(batch=(X, one_hot(T, 4))),
        "nll", "(6,)", "(6, 4)", "argmax(1)",
    ),
    "mse: a step of one output and (N,)": (
        lambda: step(BINARY, losses.mse(), batch=(X, Y)),
        "mse", "(6, 1)", "(6,)",
    ),
    "sigmoid_cross_entropy: two outputs": (
        lambda: binary(BCE, net=lf.dense(2)),
        "sigmoid_cross_entropy", "(6, 2)", "(6,)",
    ),
    "backward: the value for the cache": (
        lambda: NLL.backward(NLL.forward(LOG_P, C)),
        "nll", "cache",
    ),
    "backward: another loss's cache": (
        lambda: NLL.backward(SCE.forward(Z, C)[1]),
        "nll", "cache",
    ),
    "a loss that returns the value alone": (
        lambda: step(loss=ALONE),
        "mine(): expected forward to return (value, cache), got a Tensor",
    ),
    "value_and_gradient of a loss that returns the value alone": (
        lambda: lf.value_and_gradient(NET, ALONE)(PARAMS, (X, T)),
        "mine(): expected forward to return (value, cache), got a Tensor",
    ),
    "reduction: mean without quotes": (
        lambda: losses.nll(reduction=torch.mean),
        "nll", "reduction", "mean",
    ),
}  # fmt: skip

ROWS |= {
    name: (partial(loss.forward, x, target), name.partition(":")[0], *words)
    for name, (loss, x, target, *words) in FORWARD.items()
}
