"""The table of losses: each with predictions, targets and torch's."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import nn

import lincoln_fn as lf
from helpers import loss_formulas, normal, uniform

REDUCTIONS = ("mean", "sum", "none")


@attrs.frozen(eq=False)
class Row:
    """A loss in one configuration.

    Args:
        name: of the loss.
        module: torch's class.
        prediction: in float32, a tensor or a tuple, examples on the first axis.
        target: a tensor, or None.
        options: what both constructors take.
        call: (module, prediction, target) -> value, where the module takes its inputs otherwise.
        batched: whether the first axis holds examples.
        wide: whether scores of 1e4 lie in the loss's domain.
        note: tells rows with one name and options apart.
    """

    name: str
    module: Any
    prediction: Any
    target: Any
    options: dict[str, Any] = attrs.field(factory=dict)
    call: Callable[[Any, Any, Any], Any] = lambda module, x, target: module(x, target)
    batched: bool = True
    wide: bool = True
    note: str = ""

    def __str__(self) -> str:
        options = ",".join(
            f"{key}" if torch.is_tensor(value) else f"{key}={value}"
            for key, value in self.options.items()
        )
        return f"{self.name}({options}){self.note}"

    def loss(self, reduction: str) -> lf.Loss:
        return getattr(lf.losses, self.name)(**self.options, reduction=reduction)

    @property
    def reductions(self) -> tuple[str, ...]:
        return (*REDUCTIONS, "batchmean") if self.name == "kl_div" else REDUCTIONS

    def expected(self, reduction: str, prediction: Any, target: Any, g: Any) -> tuple[Any, list]:
        """Give torch's value and gradients, in the prediction's dtype."""
        dtype = lf.tree.leaves(prediction)[0].dtype
        options = {
            key: value.to(dtype) if torch.is_tensor(value) else value
            for key, value in self.options.items()
        }
        watched = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), prediction)
        value = self.call(self.module(**options, reduction=reduction), watched, target)
        return value.detach(), list(torch.autograd.grad(value, lf.tree.leaves(watched), g))


def by_two(module, x, target):
    return module(*x, target)


def by_three(module, x, target):
    return module(*x)


def with_variance(module, x, target):
    mean, var = x
    # An older torch takes a variance with the mean's last axis missing, but not with another.
    return module(mean, target, var.expand_as(mean) if var.ndim == mean.ndim else var)


class FlowNLL(nn.Module):
    """The negative log-likelihood of a flow, by torch's normal distribution."""

    def __init__(self, reduction):
        super().__init__()
        self.reduction = reduction

    def forward(self, z, log_det):
        values = -torch.distributions.Normal(0, 1).log_prob(z).flatten(1).sum(1) - log_det
        return values if self.reduction == "none" else getattr(values, self.reduction)()


class VectorQuantization(nn.MSELoss):
    """The loss of a vector quantisation, with `detach`."""

    def forward(self, x, q):
        return super().forward(q, x.detach()) + 0.25 * super().forward(x, q.detach())


def labels(*shape, n, seed=0):
    return uniform(*shape, low=0, high=n, seed=seed).long().clamp(max=n - 1)


def signs(*shape, seed=0):
    return 2 * labels(*shape, n=2, seed=seed) - 1


X, T = normal(5, 3, seed=1), normal(5, 3, seed=2)
IMAGE = normal(2, 4, 3, 5, seed=3)
IMAGE_LABELS = labels(2, 3, 5, n=4, seed=4)
LABELS = torch.tensor([2, 0, 1, 1, 0])
SOME_IGNORED = torch.tensor([2, -100, 1, -100, 0])
NO_TWO = torch.tensor([0, 2, 1, 1, 2])
W = torch.tensor([0.5, 2.0, 3.0])
MIXTURE = torch.softmax(T, 1)
PAIR = (X, T)
TRIPLET = (X, T, normal(5, 3, seed=5))
SOME_LABELS = torch.tensor(
    [[2, 0, -1, 1], [1, -1, 0, 0], [3, 2, 1, 0], [-1, 2, 2, 2], [0, 0, -1, 3]]
)
FOUR = normal(5, 4, seed=6)
COUNTS = torch.tensor([[0, 1, 2], [3, 0, 1], [5, 8, 1], [2, 0, 1], [0, 4, 7]]).float()
SOFT_IMAGE = uniform(2, 4, 3, 5, seed=33)
SQUARE = normal(3, 3, seed=34)
APART = {"batched": False}  # the examples of a batch are compared with each other
NARROW = {"wide": False}  # the exponential of a log-probability above 88 is infinite
P = uniform(5, 3, low=0.05, high=0.95, seed=7)
SOFT = uniform(5, 3, seed=8)


def regression():
    yield Row("mse", nn.MSELoss, X, T)
    yield Row("mse", nn.MSELoss, normal(6, 2, 3, 4), normal(6, 2, 3, 4, seed=9), note="-4d")
    yield Row("l1", nn.L1Loss, X, T)
    for beta in (1.0, 2.0, 0.0):
        yield Row("smooth_l1", nn.SmoothL1Loss, X, T, {"beta": beta})
    for delta in (1.0, 2.0):
        yield Row("huber", nn.HuberLoss, X, T, {"delta": delta})


def distributions():
    z = torch.log_softmax(X, 1)
    yield Row("kl_div", nn.KLDivLoss, z, MIXTURE)
    yield Row("kl_div", nn.KLDivLoss, z, torch.eye(3)[LABELS], note="-zeros")
    yield Row("kl_div", nn.KLDivLoss, z, torch.log(MIXTURE), {"log_target": True})
    yield Row("poisson_nll", nn.PoissonNLLLoss, X, COUNTS, wide=False)
    yield Row("poisson_nll", nn.PoissonNLLLoss, X, COUNTS, {"full": True}, wide=False)
    rates = {"log_input": False, "full": True, "eps": 0.1}
    yield Row("poisson_nll", nn.PoissonNLLLoss, P, COUNTS, rates, wide=False)
    flown = normal(5, 3, 2, seed=12), normal(5, seed=13)
    yield Row("vector_quantization", VectorQuantization, PAIR, None, call=by_three)
    yield Row("flow_nll", FlowNLL, flown, None, call=by_three, wide=False)
    for shape in ((5, 3), (5, 1), (5,), (1, 3)):
        x = (X, uniform(*shape, low=0.2, high=2.0, seed=10))
        batched = shape != (1, 3)
        yield Row(
            "gaussian_nll", nn.GaussianNLLLoss, x, T, {}, with_variance, batched, False, f"-{shape}"
        )
    options = {"full": True, "eps": 0.1}
    yield Row("gaussian_nll", nn.GaussianNLLLoss, x, T, options, with_variance, False, wide=False)


def margins():
    y = signs(5, 3, seed=11)
    for margin in (1.0, 0.3):
        options = {"margin": margin}
        yield Row("hinge_embedding", nn.HingeEmbeddingLoss, X, y, options)
        yield Row("margin_ranking", nn.MarginRankingLoss, PAIR, y, options, by_two)
    yield Row("margin_ranking", nn.MarginRankingLoss, PAIR, y, {}, by_two)
    yield Row("soft_margin", nn.SoftMarginLoss, X, y, wide=False)
    for p in (1, 2):
        options = {"p": p, "margin": 0.7, "weight": W}
        yield Row("multi_margin", nn.MultiMarginLoss, X, LABELS, options)
    yield Row("multi_margin", nn.MultiMarginLoss, X, LABELS)
    yield Row("multi_margin", nn.MultiMarginLoss, X[0], LABELS[0], {"p": 2}, batched=False)
    yield Row("multi_label_margin", nn.MultiLabelMarginLoss, FOUR, SOME_LABELS)
    one = SOME_LABELS[0]
    yield Row("multi_label_margin", nn.MultiLabelMarginLoss, FOUR[0], one, batched=False)
    several = {"weight": W}
    name = "multi_label_soft_margin"
    yield Row(name, nn.MultiLabelSoftMarginLoss, X, labels(5, 3, n=2))
    yield Row(name, nn.MultiLabelSoftMarginLoss, X, SOFT, several)
    yield Row(name, nn.MultiLabelSoftMarginLoss, X[0], SOFT[0], several, batched=False)


def embeddings():
    for options in (
        {},
        {"margin": 0.3, "p": 1.0},
        {"p": 3.5, "eps": 0.1},
        {"p": 0.5},
        {"p": float("inf")},
        {"swap": True, "margin": 2.0},
        {"swap": True, "p": 3.0, "eps": 0.1},
    ):
        yield Row("triplet_margin", nn.TripletMarginLoss, TRIPLET, None, options, by_three)
    one = tuple(x[0] for x in TRIPLET)
    yield Row("triplet_margin", nn.TripletMarginLoss, one, None, {}, by_three, batched=False)
    y = torch.tensor([1, -1, -1, 1, -1])
    pairs = (X, torch.cat([X[:2] + T[:2] / 4, T[2:]]))
    for margin in (0.0, 0.4, -0.5):
        options = {"margin": margin}
        yield Row("cosine_embedding", nn.CosineEmbeddingLoss, pairs, y, options, by_two)
    one = tuple(x[0] for x in pairs)
    yield Row("cosine_embedding", nn.CosineEmbeddingLoss, one, y[0], {}, by_two, batched=False)


def classes():
    z = torch.log_softmax(X, 1)
    kinds = [
        ("nll", nn.NLLLoss, z, lambda module, x, target: module(x, target)),
        ("cross_entropy", nn.NLLLoss, P, lambda module, x, target: module(x.log(), target)),
        ("softmax_cross_entropy", nn.CrossEntropyLoss, X, lambda module, x, t: module(x, t)),
    ]
    for name, module, x, call in kinds:
        wide = name != "cross_entropy"
        for options, target in (
            ({}, LABELS),
            ({}, SOME_IGNORED),
            ({"weight": W}, LABELS),
            ({"weight": W}, SOME_IGNORED),
            ({"weight": W, "ignore_index": 2}, NO_TWO),
            ({"ignore_index": 2}, NO_TWO),
        ):
            note = "-some" if target is SOME_IGNORED else ""
            yield Row(name, module, x, target, options, call, wide=wide, note=note)
    weight = torch.tensor([0.5, 2.0, 0.0, 3.0])
    name, module = "softmax_cross_entropy", nn.CrossEntropyLoss
    for options in ({}, {"weight": weight, "ignore_index": 1}, {"label_smoothing": 0.2}):
        yield Row(name, module, IMAGE, IMAGE_LABELS, options, note="-image")
    for target in (LABELS, SOME_IGNORED, MIXTURE):
        for options in ({"label_smoothing": 0.2}, {"label_smoothing": 1.0, "weight": W}):
            note = {2: "-mixture"}.get(target.ndim, "-some" if target is SOME_IGNORED else "")
            yield Row(name, module, X, target, options, note=note)
    yield Row(name, module, X, MIXTURE, note="-mixture")
    mixture = torch.softmax(normal(2, 4, 3, 5, seed=12), 1)
    yield Row(name, module, IMAGE, mixture, {"weight": weight}, note="-image-mixture")


def two_classes():
    for target, weight in ((labels(5, 3, n=2).float(), W), (SOFT, torch.tensor(2.0))):
        note = "-soft" if target is SOFT else ""
        for options in ({}, {"weight": W}, {"weight": SOFT[:, :1], "pos_weight": W}):
            name, batched = "sigmoid_cross_entropy", "pos_weight" not in options
            yield Row(name, nn.BCEWithLogitsLoss, X, target, options, batched=batched, note=note)
        for options in ({"eta": 0.0}, {"eta": 0.0, "weight": weight}):
            yield Row("log_loss", without_eta, P, target, options, wide=False, note=note)
        z, name = P.log(), "log_sigmoid_loss"
        yield Row(name, nn.BCELoss, z, target, {}, of_logarithms, wide=False, note=note)


def without_eta(eta, **options):
    return nn.BCELoss(**options)


def of_logarithms(module, z, target):
    return module(z.exp(), target)


def formulas():
    """Losses beside the formulas of their papers."""
    one, two, three, four = (normal(5, seed=20 + i) for i in range(4))
    desirable = torch.tensor([True, False, False, True, True])
    tokens, old = normal(4, 3, seed=24), normal(4, 3, seed=24) + 0.3 * normal(4, 3, seed=25)
    mask = torch.tensor([[True] * 3, [True, False, False], [True, True, False], [True] * 3])
    groups = tuple(normal(2, 4, 3, seed=26 + i) for i in range(3))
    rewards, of_groups = normal(2, 4, seed=29), uniform(2, 4, 3, seed=30) > 0.3
    square, image = normal(4, 4, seed=31), torch.sigmoid(IMAGE)
    y = labels(5, 3, n=2, seed=32).float()
    for name, x, target, options, marks in (
        ("dpo", (one, two), (three, four), {}, {}),
        ("dpo", (one, two), (three, four), {"beta": 0.5, "label_smoothing": 0.2}, {}),
        ("dpo", (one, two), (three, four), {"loss_type": "ipo"}, {}),
        ("kto", (one, two), (desirable, three, two + 9),
         {"desirable_weight": 0.3, "undesirable_weight": 0.7}, {}),
        ("ppo_clip", tokens, (old[:, 0], old), {}, NARROW),
        ("ppo_clip", tokens, (old, old, mask), {"clip_range": 0.1}, NARROW),
        ("grpo", groups[0], (rewards, *groups[1:], of_groups), {}, NARROW),
        ("grpo", groups[0], (rewards, groups[1]), {"beta": 0.0, "scale_rewards": False}, NARROW),
        ("reinforce", tokens, (old[:, 0], mask), {}, {}),
        ("reinforce", tokens, old, {"baseline": "leave_one_out"}, APART),
        ("info_nce", square[:3], None, {"temperature": 0.5}, APART),
        ("info_nce", square, None, {"symmetric": True}, APART),
        ("nt_xent", (X, T), None, {}, APART),
        ("distillation", X, T, {"temperature": 3.0}, {}),
        ("distillation", IMAGE, IMAGE.flip(1), {"dim": -1}, {}),
        ("linear_cross_entropy", (X, SQUARE), SOME_IGNORED, {"chunk_size": 2}, APART),
        ("linear_cross_entropy", (normal(2, 3, 3), SQUARE), IMAGE_LABELS[..., 0] % 3,
         {"weight": W, "chunk_size": 4}, APART),
        ("focal", X, y, {}, {}),
        ("focal", X, y, {"alpha": None, "gamma": 1.5}, {}),
        ("dice", image, SOFT_IMAGE, {}, {"wide": False}),
        ("identity", IMAGE, None, {}, {}),
    ):  # fmt: skip
        yield Row(name, getattr(loss_formulas, name), x, target, options, **marks)


def last_axis():
    """Classes on the last axis, beside torch's, which has them on axis 1."""
    z = torch.log_softmax(IMAGE.movedim(1, -1), -1)
    weight = torch.tensor([0.5, 2.0, 0.0, 3.0])
    mixture = torch.softmax(normal(2, 3, 5, 4, seed=12), -1)
    for name, module, x, target, options in (
        ("nll", nn.NLLLoss, z, IMAGE_LABELS, {}),
        ("nll", nn.NLLLoss, z, IMAGE_LABELS, {"weight": weight}),
        ("cross_entropy", nn.NLLLoss, z.exp(), IMAGE_LABELS, {}),
        ("softmax_cross_entropy", nn.CrossEntropyLoss, z, IMAGE_LABELS, {"ignore_index": 1}),
        ("softmax_cross_entropy", nn.CrossEntropyLoss, z, mixture, {"weight": weight}),
    ):
        call = of_logarithms_last if name == "cross_entropy" else of_last
        wide = name != "cross_entropy"
        options = {**options, "dim": -1}
        note = "-mixture" if target is mixture else ""
        yield Row(name, without_dim(module), x, target, options, call, wide=wide, note=note)


def without_dim(module):
    return lambda dim, **options: module(**options)


def of_last(module, x, target):
    target = target.movedim(-1, 1) if target.is_floating_point() else target
    return module(x.movedim(-1, 1).contiguous(), target)


def of_logarithms_last(module, x, target):
    return of_last(module, x.log(), target)


TABLE = [
    *regression(), *distributions(), *margins(), *embeddings(), *classes(), *two_classes(),
    *formulas(), *last_axis(),
]  # fmt: skip
