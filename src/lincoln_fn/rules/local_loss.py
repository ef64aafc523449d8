"""The loss of a network with local heads: each head's own, and the network's.

Derivation. out_i is the output of the head of hidden block i, y the network's, c the labels. With
the cross-entropy H, similarity matching M and beta in [0, 1],

    "prediction":    L = sum_i H("out"_i, c) + H(y, c)
    "similarity":    L = sum_i M("out"_i, c) + H(y, c)
    "both":          L = sum_i B("out"_i, c) + (1 - beta) H(y, c)

    B("out"_i, c) = (1 - beta) H("out"_(i1), c) + beta M("out"_(i2), c)

Each term depends on one output alone, and so the gradient of an output is that of its own loss.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Probability, at_least, bare, constructor
from lincoln_fn.losses import Loss, softmax_cross_entropy, weighted
from lincoln_fn.rules.similarity_matching import similarity_matching

Kind: TypeAlias = Literal["prediction", "similarity", "both"]
Classes: TypeAlias = Annotated[int, at_least(2)]


@constructor
def local_loss(n_classes: Classes, *, kind: Kind = "both", beta: Probability = 0.99) -> Loss:
    """Make the loss of a network that `local_losses` has made, from class indices of shape (N,).

    It takes (out_1, ..., y), and adds up the heads' losses and the network's own cross-entropy.

    Args:
        kind: as in `local_losses`, and so is n_classes.
        beta: the weight of similarity matching in "both"; cross-entropies have 1 - beta.

    Source:
        Nøkland and Eidnes, "Training Neural Networks with Local Error Signals", ICML 2019.

    Example:
        >>> loss, logits = local_loss(2, kind="prediction"), torch.zeros(4, 2)
        >>> loss.forward((logits, logits), torch.tensor([0, 1, 1, 0]))[0]
        tensor(1.3863)
    """
    label = softmax_cross_entropy()
    match = similarity_matching(n_classes)
    share = 1 - beta if kind == "both" else 1.0
    of_head = {
        "prediction": label,
        "similarity": match,
        "both": weighted({"prediction": (share, label), "similarity": (beta, match)}),
    }[kind]
    of_net = weighted({"label": (share, label)})
    forward = partial(_forward, of_head=of_head, of_net=of_net, both=kind == "both")
    return bare(Loss, forward, partial(_backward, of_head=of_head, of_net=of_net))


def _forward(
    prediction: tuple[Arrays, ...], target: Tensor, *, of_head: Loss, of_net: Loss, both: bool
) -> tuple[Tensor, tuple[Cache, ...]]:
    """Compute the sum of the losses of all heads, and the network's."""
    if type(prediction) is not tuple:
        wanted = "prediction to be a tuple, as local_losses returns it"
        raise core.unexpected("local_loss", wanted, core.describe_non_tuple(prediction))
    *outputs, y = prediction
    for i, out in enumerate(outputs):
        if isinstance(out, tuple) is not both:
            form = "a pair of logits and features" if both else "a tensor"
            wanted = f"the output of head {i} to be {form}"
            mend = "give local_losses and local_loss the same kind"
            raise core.unexpected("local_loss", wanted, core.format_briefly(out), mend)
    value, cache = of_net.forward((y,), (target,))
    caches = [cache]
    for out in reversed(outputs):
        of_one, cache = of_head.forward(out, (target, target) if both else target)
        value = value + of_one
        caches.append(cache)
    return value, tuple(reversed(caches))


def _backward(
    caches: tuple[Cache, ...], g: Tensor | float = 1.0, *, of_head: Loss, of_net: Loss
) -> tuple[Arrays, ...]:
    """Compute the gradient of each output, by its own loss."""
    *of_heads, of_y = caches
    (dy,) = of_net.backward(of_y, g)
    return (*(of_head.backward(cache, g) for cache in of_heads), dy)
