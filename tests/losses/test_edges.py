"""Losses where the table cannot go: kinks, labels that do not count, reprs, what is refused."""

import math

import pytest
import torch
from helpers import assert_refused, cast, largest, names_of, same_number
from helpers.refusals import refusals
from torch import nn

import lincoln_fn as lf
from lincoln_fn import losses
from lincoln_fn.losses.common.checks import outside

t = torch.tensor
HALVES = t([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
ONES = torch.ones(6)
ZEROS = torch.zeros(6)
# A triplet whose z is 0, one of equal vectors, and one whose distances tie under swap.
ANCHOR = t([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
POSITIVE = t([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [1.0, 2.0]])
NEGATIVE = t([[2.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 3.0]])
UNIT = t([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
OTHER = t([[0.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
SCORES = t([[1.0, 0.0, 1.0, 2.0]])


def triplets(anchor, positive, negative, **options):
    x, slopes = (ANCHOR, POSITIVE, NEGATIVE), (anchor, positive, negative)
    return ("triplet_margin", nn.TripletMarginLoss, {**options, "eps": 0.0}, x, None, slopes)


# dl/dx where l has a kink, as the losses' pages say: a page that gives max(0, z) the slope 1 at
# z = 0 means 1 here. What autograd takes there is not asked: torch 2.15 takes another than 2.13.
R, C = 0.5**0.5, 0.25 ** (1 / 3)
NONE = [0.0, 0.0]
KINKS = [
    ("l1", nn.L1Loss, {}, HALVES, ZEROS, [-1, -1, 0, 1, 1, 1]),
    ("smooth_l1", nn.SmoothL1Loss, {"beta": 0.5}, HALVES, ZEROS, [-1, -1, 0, 1, 1, 1]),
    ("smooth_l1", nn.SmoothL1Loss, {"beta": 0.0}, HALVES, ZEROS, [-1, -1, 0, 1, 1, 1]),
    ("huber", nn.HuberLoss, {"delta": 0.5}, HALVES, ZEROS, [-0.5, -0.5, 0, 0.5, 0.5, 0.5]),
    ("hinge_embedding", nn.HingeEmbeddingLoss, {}, HALVES, ONES, [1, 1, 1, 1, 1, 1]),
    ("hinge_embedding", nn.HingeEmbeddingLoss, {}, HALVES, -ONES, [-1, -1, -1, -1, -1, 0]),
    ("hinge_embedding", nn.HingeEmbeddingLoss, {"margin": 0.5}, HALVES, -ONES,
        [-1, -1, -1, -1, 0, 0]),
    ("margin_ranking", nn.MarginRankingLoss, {"margin": 0.5}, (HALVES, ZEROS), ONES,
        ([-1, -1, -1, -1, 0, 0], [1, 1, 1, 1, 0, 0])),
    ("margin_ranking", nn.MarginRankingLoss, {"margin": 0.5}, (HALVES, ZEROS), -ONES,
        ([0, 1, 1, 1, 1, 1], [0, -1, -1, -1, -1, -1])),
    ("margin_ranking", nn.MarginRankingLoss, {}, (ZEROS, ZEROS), ONES, ([-1] * 6, [1] * 6)),
    ("soft_margin", nn.SoftMarginLoss, {}, ZEROS, ONES, [-0.5] * 6),
    ("multi_margin", nn.MultiMarginLoss, {}, SCORES, t([0]), [[-0.5, 0, 0.25, 0.25]]),
    ("multi_margin", nn.MultiMarginLoss, {}, SCORES, t([3]), [[0, 0, 0, 0]]),
    ("multi_margin", nn.MultiMarginLoss, {"p": 2}, SCORES, t([3]), [[0, 0, 0, 0]]),
    ("multi_margin", nn.MultiMarginLoss, {"margin": 0.0}, t([[1.0, 1.0]]), t([1]), [[0, 0]]),
    ("multi_label_margin", nn.MultiLabelMarginLoss, {}, SCORES[0], t([0, 3, -1, 1]),
        [-0.25, 0, 0.25, 0]),
    triplets([[1, -1], NONE, [R - 1, R], [0, 0]], [[0, 1], NONE, [1, 0], [0, 1]],
             [[-1, 0], NONE, [-R, -R], [0, -1]]),
    triplets([[1, -1], NONE, [0, 1], [0, 0]], [[0, 1], NONE, [1, 0], [0, 1]],
             [[-1, 0], NONE, [-1, -1], [0, -1]], p=1.0),
    triplets([[1, -1], NONE, [R / 2 - 1, R / 2], [0, -1]],
             [[0, 1], NONE, [1 - R / 2, R / 2], [0, 2]],
             [[-1, 0], NONE, [0, -R], [0, -1]], swap=True),
    triplets([[1, -1], NONE, [-0.5, 0.5], [0, -1]], [[0, 1], NONE, [0.5, 0.5], [0, 2]],
             [[-1, 0], NONE, [0, -1], [0, -1]], swap=True, p=1.0),
    triplets([[1, -1], NONE, [C / 2 - 1, C / 2], [0, -1]],
             [[0, 1], NONE, [1 - C / 2, C / 2], [0, 2]],
             [[-1, 0], NONE, [0, -C], [0, -1]], swap=True, p=3.0),
    triplets([[1, -1], NONE, [1, 2], [0, 0]], [[0, 1], NONE, [1, 0], [0, 1]],
             [[-1, 0], NONE, [-2, -2], [0, -1]], p=0.5, margin=3.0),
    triplets([[1, -1], NONE, [-0.5, 0.5], [0, 0]], [[0, 1], NONE, [1, 0], [0, 1]],
             [[-1, 0], NONE, [-0.5, -0.5], [0, -1]], p=float("inf")),
    triplets([[0.5, -1], NONE, [-0.75, 0.25], [0, -1]], [[0.5, 1], NONE, [0.75, 0.25], [0, 2]],
             [[-1, 0], NONE, [0, -0.5], [0, -1]], p=float("inf"), swap=True),
    # A vector of zeros has the length 1e-6 of the page's 1e-12: x1 / (|x1| 1e-6) is its slope.
    ("cosine_embedding", nn.CosineEmbeddingLoss, {}, (UNIT, OTHER), t([-1, -1, -1]),
        ([[0, 1], NONE, [1e6 / 5**0.5, 2e6 / 5**0.5]], [[0.5, 0], NONE, NONE])),
    ("cosine_embedding", nn.CosineEmbeddingLoss, {}, (UNIT, OTHER), t([1, 1, 1]),
        ([[0, -1], NONE, [-1e6 / 5**0.5, -2e6 / 5**0.5]], [[-0.5, 0], NONE, NONE])),
    ("cosine_embedding", nn.CosineEmbeddingLoss, {"margin": 0.5}, (UNIT, UNIT), t([-1, 1, -1]),
        ([NONE] * 3, [NONE] * 3)),
]  # fmt: skip


def tensors(slopes, dtype):
    return [t(slope, dtype=dtype) for slope in (slopes if type(slopes) is tuple else (slopes,))]


@pytest.mark.whole
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "module", "options", "x", "target", "slopes"), KINKS)
def test_kinks_have_the_slope_of_the_page(name, module, options, x, target, slopes, dtype):
    x, target = cast((x, target), dtype)
    loss = getattr(losses, name)(**options, reduction="none")
    value, cache = loss.forward(x, target)
    labels = () if target is None else (target,)
    expected = module(**options, reduction="none")(*lf.tree.leaves(x), *labels)
    assert same_number(value, expected)
    g = 1 + torch.arange(value.numel(), dtype=dtype).view(value.shape)
    given = lf.tree.leaves(loss.backward(cache, g))
    for ours, slope in zip(given, tensors(slopes, dtype), strict=True):
        each = g.view(*g.shape, *[1] * (slope.ndim - g.ndim))
        # Some losses add 1e-12 to a norm.
        expected = each * slope
        assert same_number(ours, expected, terms=max(1.0, largest(expected)), error=1e-11)


# In these norms two kinks meet, and the chain rule's number need not be a slope beside them.
SINGLE = [row for row in KINKS if row[2].get("p") not in (1.0, float("inf"))]


@pytest.mark.parametrize("row", SINGLE)
def test_the_slope_of_the_page_is_between_those_beside_it(row):
    """Hold the table itself: at a kink along an axis, by differences to both sides."""
    name, _, options, x, target, slopes = row
    step, x = 1e-9, lf.tree.map(lambda leaf: leaf.double().clone(), x)
    target = target if target is None or not target.is_floating_point() else target.double()
    loss = getattr(losses, name)(**options, reduction="sum")
    at = loss.forward(x, target)[0]
    for leaf, given in zip(lf.tree.leaves(x), tensors(slopes, torch.float64), strict=True):
        flat = leaf.view(-1)
        for i, slope in enumerate(given.view(-1).tolist()):
            before = flat[i].item()
            beside = []
            for moved in (-step, step):
                flat[i] = before + moved
                beside.append(((loss.forward(x, target)[0] - at) / moved).item())
            flat[i] = before
            low, high = sorted(beside)
            room = 1e-5 + 2e-3 * abs(slope)
            assert low - room <= slope <= high + room, (i, low, slope, high)


def test_a_variance_below_eps_is_pushed_up_as_in_torch():
    mean, var, target = t([0.0, 3.0, 1.0]), t([0.0, 0.1, 0.5]), t([1.0, 1.0, 1.0])
    loss = losses.gaussian_nll(eps=0.5, reduction="none")
    value, cache = loss.forward((mean, var), target)
    watched = mean.requires_grad_(), var.requires_grad_()
    expected = nn.GaussianNLLLoss(eps=0.5, reduction="none")(mean, target, var)
    assert same_number(value, expected)
    slopes = torch.autograd.grad(expected.sum(), watched)
    assert same_number(loss.backward(cache), slopes)


def test_soft_margin_stays_finite_where_torchs_does_not():
    x = t([1e4, -1e4, 1e4, -1e4])
    loss = losses.soft_margin(reduction="none")
    value, cache = loss.forward(x, t([1, 1, -1, -1]))
    assert value.tolist() == [0.0, 1e4, 1e4, 0.0]
    assert loss.backward(cache).tolist() == [0.0, -1.0, 1.0, 0.0]


def test_examples_that_are_ignored_may_be_anything():
    z = t([[-torch.inf, torch.nan], [-1.0, -2.0]])
    loss = losses.nll()
    value, cache = loss.forward(z, t([-100, 1]))
    assert (value, loss.backward(cache).tolist()) == (2, [[0.0, 0.0], [0.0, -1.0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_examples_ignored(smoothing):
    x, target = torch.zeros(2, 3), t([-100, -100])
    made = {"label_smoothing": smoothing}
    text = "expected labels to average over, got only ignore_index=-100 or labels of weight 0"
    loss = losses.softmax_cross_entropy(**made)
    assert_refused(f"softmax_cross_entropy: {text}", loss.forward, x, target)
    for reduction, expected in (("sum", 0), ("none", [0, 0])):
        loss = losses.softmax_cross_entropy(**made, reduction=reduction)
        value, cache = loss.forward(x, target)
        assert value.tolist() == expected
        assert not loss.backward(cache).any()
    loss = losses.nll(weight=t([0.0, 1.0, 1.0]))
    assert_refused(f"nll: {text}", loss.forward, x, t([0, 0]))


def test_a_weight_is_frozen():
    weight = torch.ones(3)
    loss = losses.nll(weight=weight, reduction="none")
    weight.fill_(7)
    assert loss.forward(torch.zeros(1, 3) - 1, t([0]))[0].tolist() == [1.0]


class Ones:
    """Reads `float32[2, 3]` as ones of that shape."""

    def __getitem__(self, shape):
        return torch.ones(shape)


@pytest.mark.parametrize("text", [
    "mse()", "l1(reduction='sum')", "smooth_l1(beta=0.5)", "huber(delta=2.0)",
    "kl_div(log_target=True, reduction='batchmean')",
    "poisson_nll(log_input=False, full=True, eps=0.1)", "gaussian_nll(full=True, eps=0.1)",
    "hinge_embedding(margin=2.0)", "margin_ranking(margin=2.0)",
    "multi_margin(p=2, margin=0.5, weight=float32[3])",
    "multi_label_soft_margin(weight=float32[3])",
    "triplet_margin(margin=2.0, p=1.0, eps=0.1, swap=True)", "cosine_embedding(margin=0.5)",
    "nll(weight=float32[3], ignore_index=2)", "cross_entropy(ignore_index=2)",
    "softmax_cross_entropy(weight=float32[3], label_smoothing=0.1)",
    "log_loss(weight=float32[2, 1])", "log_loss(reduction='sum', eta=0.5)",
    "sigmoid_cross_entropy(pos_weight=float32[1])", "ctc(blank=2, zero_infinity=True)",
])  # fmt: skip
def test_repr_is_the_code(text):
    assert repr(eval(text, {**names_of(losses), "float32": Ones()})) == text


def test_repr_leaves_defaults_out():
    made = {name for name in losses.__all__ if name.islower()}
    for name in made - {"example_weighted", "from_layer", "through", "weighted"}:
        assert repr(getattr(losses, name)()) == f"{name}()"


X = torch.zeros(2, 3)
Y = torch.ones(2, 3)
TWO = t([0, 1])
SHAPE = "for prediction (2, 3), got"


test_errors = refusals("""
losses.gaussian_nll().forward((X,), X) -> ^gaussian_nll: expected prediction (mean, var), got
    (float32[2, 3],)$
losses.gaussian_nll().forward((X, Y.double()), X) -> ^gaussian_nll: expected var of dtype
    torch.float32, got torch.float64$
losses.gaussian_nll().forward((X, Y[:, :2]), X) -> ^gaussian_nll: expected var of shape (2, 3), with
    1 in place of axes that share one, or (2,), got (2, 2)$
losses.gaussian_nll().forward((X, -Y), X) -> ^gaussian_nll: expected var of at least 0, got -1$
losses.hinge_embedding().forward(X, X) -> ^hinge_embedding: expected labels -1 or 1, got 0$
losses.margin_ranking().forward((X, 1.0), Y) -> ^margin_ranking: expected x2 to be a tensor, got
    float; convert it by torch.tensor$
losses.triplet_margin().forward((X, X, X), Y) -> ^triplet_margin: expected target None, got
    float32[2, 3]$
losses.triplet_margin().forward((X[0, 0],) * 3, None) -> ^triplet_margin: expected anchor of shape
    (..., D), got ()$
losses.multi_margin().forward(X, TWO + 2) -> ^multi_margin: expected labels from 0 to 2, got 3$
losses.multi_margin().forward(X[None], TWO) -> ^multi_margin: expected prediction of shape (N, C) or
    (C), got (1, 2, 3)$
losses.multi_label_margin().forward(X, t([[0, 3, -1], [0, 1, 2]])) -> ^multi_label_margin: expected
    labels from -1 to 2, got 3$
losses.nll(weight=torch.ones(2)).forward(X, TWO) -> ^nll: expected weight of shape (3,), got (2,)$
losses.softmax_cross_entropy(ignore_index=1).forward(X, Y) -> ^softmax_cross_entropy: expected class
    indices with ignore_index=1, got probabilities$
losses.softmax_cross_entropy().forward(torch.zeros(2, 4, 3), torch.zeros(2, 4).long()) ->
    ^softmax_cross_entropy: expected target of shape (2, 3) for prediction (2, 4, 3), got (2, 4);
    for classes on the last axis write dim=-1$
losses.softmax_cross_entropy(dim=2).forward(X, TWO) -> ^softmax_cross_entropy: expected prediction
    of shape (N, C) or larger, with an axis 2, got (2, 3)$
losses.dpo().forward((TWO / 2, TWO / 2), TWO / 2) -> ^dpo: expected target (reference_chosen,
    reference_rejected), got float32[2]$
losses.kto().forward((X[0], X[0]), (Y[0], X[0], X[0])) -> ^kto: expected desirable of booleans, got
    torch.float32; write desirable > 0$
losses.ppo_clip().forward(X, (Y[0], X)) -> ^ppo_clip: expected advantages of log_probs' shape (2, 3)
    or its first axes, got (3,)$
losses.ppo_clip().forward(X, (Y, X, X)) -> ^ppo_clip: expected mask of booleans, got torch.float32;
    write mask > 0$
losses.ppo_clip().forward(X, (Y, X, X > 0)) -> ^ppo_clip: expected a mask with a token to average
    over, got only False$
losses.grpo().forward(X, (Y, X, X)) -> ^grpo: expected log_probs of shape (prompts, answers, tokens)
    with at least 2 answers, got (2, 3)$
losses.reinforce(baseline='leave_one_out').forward(X[:1], Y[:1]) -> ^reinforce: expected at least 2
    examples for a baseline that leaves one out, got 1$
losses.info_nce(symmetric=True).forward(X, None) -> ^info_nce: expected similarities of shape (N,
    N), got (2, 3)$
losses.info_nce().forward(X.mT, None) -> ^info_nce: expected similarities of shape (N, M), M at
    least N, got (3, 2)$
losses.dice().forward(X, Y) -> ^dice: expected prediction of shape (N, C, ...), got (2, 3); give the
    places axes of their own$
losses.dice().forward(X[None] + 2, Y[None]) -> ^dice: expected probabilities, in [0, 1], got 2; end
    the net with sigmoid() or softmax(1)$
losses.linear_cross_entropy().forward((X, X.mT), TWO) -> ^linear_cross_entropy: expected features of
    shape (N, ..., D) and linear_weight of shape (C, D), got (2, 3) and (3, 2)$
losses.sigmoid_cross_entropy(weight=torch.ones(2)).forward(X, Y) -> ^sigmoid_cross_entropy: expected
    weight of a shape that broadcasts to (2, 3), got (2,)$
""")


def test_nan_is_in_no_range():
    assert outside(torch.tensor([0.5, 1.0]), 0, 1) is None
    assert outside(torch.tensor([-0.5, 2.0]), 0, 1) == -0.5
    assert outside(torch.tensor([0.5, 2.0]), 0, 1) == 2.0
    assert math.isnan(outside(torch.tensor([0.5, math.nan]), 0, 1))
    assert outside(torch.empty(0), 0, 1) is None


def test_a_nan_prediction_is_named_by_the_step_and_not_by_the_loss():
    p, target = torch.tensor([[math.nan, 0.5]]), torch.tensor([1])
    assert same_number(lf.losses.cross_entropy().forward(p, target)[0], math.log(2))


P = torch.full((4, 3), 0.5)
COLUMN = P[:, :1]
CLASSES = torch.tensor([0, 1, 2, 0])
BINARY = ("log_loss", "log_sigmoid_loss", "sigmoid_cross_entropy")
CATEGORICAL = ("cross_entropy", "nll", "softmax_cross_entropy")
LOGARITHMS = ("log_sigmoid_loss", "nll")
BETWEEN = "expected labels 0 or 1, or between them, got"

CLASS_LABELS = {
    "a class too high": (P, CLASSES + 1, "expected labels from 0 to 2, got 3"),
    "a class below 0": (P, CLASSES - 1, "expected labels from 0 to 2, got -1"),
    "floating": (P, CLASSES.float(),
        "expected target of class indices, got torch.float32; convert it by .long()"),
    "no axis of classes": (
        P[0], CLASSES, "expected prediction of shape (N, C) or (N, C, ...), got (3,)"),
    "a column for an image": (torch.zeros(4, 3, 5), CLASSES.view(4, 1),
        "expected target of shape (4, 5) for prediction (4, 3, 5), got (4, 1)"),
}  # fmt: skip

BINARY_LABELS = {
    "above 1": (COLUMN, torch.tensor([0, 1, 2, 1]), f"{BETWEEN} 2"),
    "nan": (COLUMN, torch.tensor([0, 1, torch.nan, 1]), f"{BETWEEN} nan"),
    "too few": (COLUMN, torch.zeros(3),
        "expected target of shape (4,) or (4, 1) for prediction (4, 1), got (3,)"),
}  # fmt: skip

ANY_LOSS = {
    "no example": (
        P[:0], CLASSES[:0], "expected at least one example, got prediction of shape (0, 3)"),
    "no label": (P, CLASSES[:0], "expected at least one example, got target of shape (0,)"),
    "integers": (P.long(), CLASSES, "expected prediction of a floating dtype, got torch.int64"),
    "a list of labels": (
        P, [0, 1, 2, 0], "expected target to be a tensor, got list; convert it by torch.tensor"),
    "a number": (
        0.5, CLASSES, "expected prediction to be a tensor, got float; convert it by torch.tensor"),
    "labels elsewhere": (P, CLASSES.to("meta"), "expected target on cpu, got meta"),
}  # fmt: skip

LOSSES = [
    *((name, *row) for name in CATEGORICAL for row in CLASS_LABELS.items()),
    *((name, *row) for name in BINARY for row in BINARY_LABELS.items()),
    *((name, *row) for name in (*CATEGORICAL, *BINARY) for row in ANY_LOSS.items()),
]


@pytest.mark.parametrize(
    ("name", "case", "given"), [pytest.param(*row, id="-".join(row[:2])) for row in LOSSES]
)
def test_losses_say_what_is_wrong_with_a_prediction_or_its_labels(name, case, given):
    prediction, target, problem = given
    assert_refused(f"{name}: {problem}", getattr(losses, name)().forward, prediction, target)


@pytest.mark.parametrize("name", [*BINARY, *CATEGORICAL])
def test_losses_say_what_is_wrong_with_a_cache_a_g_or_a_reduction(name):
    make = getattr(losses, name)
    message = f"{name}: expected the cache of its own forward, got float32[4, 3]"
    assert_refused(message, make().backward, P)
    target = CLASSES if name in CATEGORICAL else P
    prediction = P.log() if name in LOGARITHMS else P
    for reduction, g, expected in (("mean", P, "()"), ("none", P[0, 0], None)):
        value, cache = make(reduction=reduction).forward(prediction, target)
        shapes = f"{expected or tuple(value.shape)}, got {tuple(g.shape)}"
        message = f"{name}: expected g of shape {shapes}"
        assert_refused(message, make(reduction=reduction).backward, cache, g)
    with pytest.raises(
        ValueError, match=rf"^{name}: expected reduction to be 'mean', 'sum' or 'none', got 'x'"
    ):
        make(reduction="x")
