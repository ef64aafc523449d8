"""Cross-entropy on logits x: `log_softmax` and `nll` in one.

Derivation. With log-probabilities z, target probabilities q, and weights w, 1 unless given,

    z_j = x_j - log sum_n e^(x_n)
    a_j = w_j q_j
    l = -sum_j a_j z_j

The logarithm's derivative is the softmax p = e^z, so

    (dz_j)/(dx_k) = {(1 - p_k, if j = k), (-p_k, otherwise):}
    dx_k = (p_k sum_j a_j - a_k) dl

For a label c, q_c = 1, and q is 0 for all other classes. So

    l = -w_c z_c
    dx_k = {((p_k - 1) w_c dl, if k = c), (p_k w_c dl, otherwise):}

p_c - 1 is computed as expm1(z_c), which adds no error of its own. That of z_c stays: the sum of the
exponentials is rounded, so in float32 a 1 - p_c below 2^(-24) is 0. Label smoothing by e replaces
q by (1 - e) q + e / C. A mean divides by the sum of the w_c or, with a target of probabilities, by
the number of examples, for any weights.

Cache: z with c and w_c, or z with a.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import Probability, constructor, record, static, unexpected
from lincoln_fn.layers.log_softmax import minus_one_hot
from lincoln_fn.losses.common.labels import ClassWeights, check_classes, of_classes, weighted_values
from lincoln_fn.losses.common.reduction import Cotangent, make_loss, per_example
from lincoln_fn.losses.internal import Labels, Loss, Reduction, read_labels, total_weight

NAME = "softmax_cross_entropy"
Scores = Float[Tensor, "N C *s"]


@record
class Cache:
    """The log-probabilities, each w_c or sum of a_j, the labels if any, and a, unless of labels."""

    z: Scores
    w: Float[Tensor, "N 1 *s"]
    labels: Labels | None
    a: Scores | None
    dim: int = static()


def forward(
    x: Scores, target: Int[Tensor, " N *s"] | Scores,
    *, weight: Tensor | None, ignore_index: int, label_smoothing: float, dim: int = 1,
) -> tuple[Float[Tensor, " N *s"], Cache]:  # fmt: skip
    """Compute l = -w_c z_c of labels, l = -sum_j a_j z_j of probabilities or smoothed labels."""
    if target.is_floating_point() and target.shape == x.shape and x.ndim > 1:
        if ignore_index >= 0:
            expected = f"class indices with ignore_index={ignore_index}"
            raise unexpected(NAME, expected, "probabilities")
        check_classes(NAME, x, dim)
        labels, q = None, target.to(x.dtype)
    else:
        labels = read_labels(NAME, x, target, weight, ignore_index, dim)
        if not label_smoothing:
            z = _log_softmax(x, dim)
            values = weighted_values(-z.gather(dim, labels.index), labels)
            return values, Cache(z, labels.w, labels, None, dim)
        q = torch.zeros_like(x).scatter(dim, labels.index, 1)
    z, a = _log_softmax(x, dim), _mixture(q, label_smoothing, weight, dim)
    if labels is not None:
        a = torch.where(labels.ignored, 0, a)
    w = a.sum(dim, keepdim=True)
    return -torch.where(a != 0, a * z, 0).sum(dim), Cache(z, w, labels, a, dim)


def _log_softmax(x: Scores, dim: int) -> Scores:
    """Compute z; where the classes are contiguous in memory, they are so in z and in dx, too."""
    # So the products of the dense layer before a `permute` read dx as one matrix.
    if x.stride(dim) == 1:
        return torch.log_softmax(x.movedim(dim, -1), -1).movedim(-1, dim)
    return torch.log_softmax(x, dim)


def _mixture(q: Scores, e: float, weight: Tensor | None, dim: int) -> Scores:
    """Compute a_j = w_j ((1 - e) q_j + e / C)."""
    classes = q.shape[dim]
    if e:
        q = (1 - e) * q + e / classes
    if weight is None:
        return q
    w = of_classes(NAME, weight, classes, q)
    return q * w.view(-1, *(1,) * (q.ndim - 1 - dim % q.ndim))


def backward(cache: Cache, dl: Cotangent) -> Scores:
    """Compute dx_k = (p_k sum_j a_j - a_k) dl, which for a label c is (p_k - q_k) w_c dl."""
    z, a, dim = cache.z, cache.a, cache.dim
    if a is not None:
        return (torch.exp(z) * cache.w - a) * per_example(dl, dim)
    assert cache.labels is not None, "there are labels or a"
    return minus_one_hot(z, cache.labels.index, dim) * (cache.w * per_example(dl, dim))


def count(cache: Cache, *, name: str) -> Tensor | None:
    """Compute sum w_c of labels; None, for the number of examples, of probabilities."""
    return None if cache.labels is None else total_weight((cache.labels,), name=name)


@constructor
def softmax_cross_entropy(
    *,
    weight: ClassWeights | None = None,
    ignore_index: int = -100,
    label_smoothing: Probability = 0.0,
    dim: int = 1,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the cross-entropy on logits x: `log_softmax` and `nll` in one.

    l = -w_c log p_c with p the softmax of x and c the label. With a target of probabilities q,
    l = -sum_j w_j q_j log p_j. Label smoothing by e replaces q by (1 - e) q + e / C.

    x has shape (N, C) or (N, C, ...), and the target are class indices (N,) or (N, ...), or
    probabilities of x's shape; for (N, C) a column (N, 1) of class indices is accepted too.

    Args:
        ignore_index: examples of this label have value and gradient 0, and means leave them out.
        label_smoothing: e, the share of each target that is spread over all classes.
        dim: the axis of the classes: 1, or -1 for the last, as a language model has it.
        reduction: "mean" over the examples, "sum" of them, or "none". The mean is weighted,
            sum l / sum w_c; with target probabilities it divides by the number of examples.

    Example:
        >>> loss = lf.losses.softmax_cross_entropy()
        >>> value, cache = loss.forward(torch.tensor([[1e4, 1e4]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.5000,  0.5000]]))
    """
    return make_loss(forward, backward, count=count)
