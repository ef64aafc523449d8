"""Networks with rules, and their gradients."""

import torch

import lincoln_fn as lf
from helpers.cases.case import normal
from lincoln_fn import rules


def with_gradients(params):
    return lf.tree.map(lambda leaf: leaf.detach().clone().requires_grad_(), params)


NET = lf.serial(
    lf.conv2d(3, 3, bias=False), lf.batch_norm(), lf.relu(), lf.max_pool2d(2), lf.flatten(),
    lf.dense(6), lf.relu(), lf.dropout(0.25), lf.dense(4),
)  # fmt: skip
HIDDEN = lf.serial(*NET.parts[:-2])
X, LABELS = normal(8, 1, 8, 6), torch.arange(8) % 4
TRUE_OR_FALSE = (torch.arange(8) % 2).float()
SOFTMAX = lf.losses.softmax_cross_entropy()
# The rules that change layers by themselves.
WRAPPERS = {
    "feedback_alignment": rules.feedback_alignment,
    "uniform": rules.sign_symmetric,
    "batchwise": lambda net: rules.sign_symmetric(net, variant="batchwise"),
    "fixed": lambda net: rules.sign_symmetric(net, variant="fixed"),
    "kolen_pollack": rules.kolen_pollack,
}


def ruled(net, hidden, n):
    """Make a network and its loss by each rule, for n classes; `hidden` has no output layer."""
    kinds = "prediction", "similarity", "both"
    return {
        **{name: (wrap(net), SOFTMAX) for name, wrap in WRAPPERS.items()},
        "direct_feedback_alignment": (rules.direct_feedback_alignment(net), SOFTMAX),
        **{k: (rules.local_losses(net, n, kind=k), rules.local_loss(n, kind=k)) for k in kinds},
        "forward_forward": (rules.forward_forward(hidden, n), rules.forward_forward_loss()),
        "pepita": (rules.pepita(net), SOFTMAX),
    }


RULES = {
    **{name: (*pair, TRUE_OR_FALSE if name == "forward_forward" else LABELS)
        for name, pair in ruled(NET, HIDDEN, 4).items() if name != "similarity"},
    "straight_through": (
        lf.map_layers(lambda la: rules.straight_through(la) if "relu" in la.name else la, NET),
        SOFTMAX, LABELS),
}  # fmt: skip
