"""Random losses, with a head that fits each and its targets.

A row draws (head, loss, target): the layers between a network and its loss, the loss, and a
function (key, prediction) -> target.
"""

import torch

import lincoln_fn as lf
from helpers.fuzzing.draws import chance, options, size
from helpers.fuzzing.networks import fork
from lincoln_fn import keys, losses

REDUCTIONS = ("mean", "mean", "sum")


def reduced(rng, name, **options):
    return getattr(losses, name)(**options, reduction=rng.choice(REDUCTIONS))


def numbers(key, z):
    """Draw targets of the prediction's shape."""
    return keys.normal(key, tuple(z.shape))


def labels(key, *shape, n):
    return keys.uniform(key, shape, 0, n).long().clamp(max=n - 1)


def signs(key, z):
    return 2.0 * labels(key, *z.shape, n=2) - 1


def mixtures(key, z):
    return numbers(key, z).softmax(1)


def regression(name, **choices):
    return lambda r, y: ([], reduced(r, name, **options(r, **choices)), numbers)


def of_classes(name, *head):
    """Give the row of a loss on scores whose classes are on axis 1."""

    def draw(r, y):
        classes = y.shape[1]
        drawn = options(r, weight=(class_weights(classes),))
        if name == "softmax_cross_entropy":
            drawn |= options(r, label_smoothing=(0.2, 1.0))
            if chance(r, 0.2):
                return list(head), reduced(r, name, **drawn), mixtures
        if classes > 1 and chance(r, 0.3):
            drawn["ignore_index"] = classes - 1
        kept = drawn.get("ignore_index")

        def target(key, z):
            indices = labels(key, len(z), *z.shape[2:], n=classes)
            if kept is not None:  # not for all, for a mean of nothing is an error
                indices.view(-1)[0] = 0
            return indices

        return list(head), reduced(r, name, **drawn), target

    return draw


def class_weights(n):
    return keys.uniform(lf.Key(5), (n,), 0.5, 2.0)


def of_two_classes(name, *head):
    def draw(r, y):
        weights = {
            "log_loss": {"weight": (class_weights(y.shape[-1]),)},
            "sigmoid_cross_entropy": {
                "weight": (class_weights(y.shape[-1]),),
                "pos_weight": (class_weights(y.shape[-1]), torch.tensor(2.0)),
            },
        }.get(name, {})
        hard = chance(r, 0.5)

        def target(key, z):
            soft = keys.uniform(key, tuple(z.shape))
            return soft.round() if hard else soft

        return list(head), reduced(r, name, **options(r, **weights)), target

    return draw


def of_rows(name, target, **choices):
    """Give the row of a loss on (N, C)."""

    def draw(r, y):
        flat = [] if y.ndim == 2 else [lf.flatten()]
        n = y[0].numel()
        more = options(r, **{what: of(n) if callable(of) else of for what, of in choices.items()})
        return flat, reduced(r, name, **more), target

    return draw


def some_labels(key, z):
    """Draw for each row labels that come first, and then -1."""
    n, classes = z.shape
    order = torch.stack([keys.permutation(key.fold_in(i), classes) for i in range(n)])
    counts = labels(key, n, 1, n=classes + 1)
    return torch.where(torch.arange(classes) < counts, order, -1)


def kl_div(r, y):
    logarithm = chance(r, 0.5)
    loss = losses.kl_div(log_target=logarithm, reduction=r.choice((*REDUCTIONS, "batchmean")))
    return (
        [lf.log_softmax(1)],
        loss,
        lambda key, z: numbers(key, z).log_softmax(1) if logarithm else mixtures(key, z),
    )


def poisson_nll(r, y):
    loss = reduced(r, "poisson_nll", **options(r, full=(True,)))
    head = [lf.tanh()]
    if chance(r, 0.3):
        loss = reduced(r, "poisson_nll", log_input=False, eps=0.1, **options(r, full=(True,)))
        head = [lf.softplus()]
    return head, loss, lambda key, z: labels(key, *z.shape, n=6).float()


def gaussian_nll(r, y):
    loss = reduced(r, "gaussian_nll", eps=0.1, **options(r, full=(True,)))
    head = fork(lf.identity(), lf.serial(lf.dense(y.shape[-1]), lf.softplus()))
    return [head], loss, lambda key, z: numbers(key, z[0])


def of_several(name, count, target, **choices):
    """Give the row of a loss that compares embeddings."""

    def draw(r, y):
        flat = [] if y.ndim == 2 else [lf.flatten()]
        width = size(r)
        head = fork(*(lf.dense(width) for _ in range(count)))
        return [*flat, head], reduced(r, name, **options(r, **choices)), target

    return draw


def of_router(loss):
    return lambda r, y: ([lf.dense(4)], loss, lambda key, z: None)


def flow_nll(r, y):
    flat = [] if y.ndim == 2 else [lf.flatten()]
    head = fork(lf.dense(size(r)), lf.serial(lf.dense(1), lf.take(0, 1)))
    return [*flat, head], reduced(r, "flow_nll"), lambda key, z: None


def ctc(r, y):
    if y.ndim != 3 or y.shape[2] < 2:
        raise ValueError("no sequence of classes")
    length = y.shape[1]

    def target(key, z):
        n, most = z.shape[1], max(length // 2, 1)
        steps = torch.full((n,), length)
        lengths = labels(key, n, n=most + 1)
        return 1 + labels(key.fold_in(1), n, most, n=z.shape[2] - 1), steps, lengths

    loss = reduced(r, "ctc", zero_infinity=True)
    return [lf.permute(1, 0, 2), lf.log_softmax()], loss, target


def info_nce(r, y):
    flat = [] if y.ndim == 2 else [lf.flatten()]
    head = lf.dense(max(len(y), 1) + 1)
    return [*flat, head], reduced(r, "info_nce", temperature=2.0), lambda key, z: None


def grpo(r, y):
    if y.ndim < 3 or y.shape[1] < 2:
        raise ValueError("no groups of answers")
    flat = [] if y.ndim == 3 else [lf.flatten(2)]
    loss = reduced(r, "grpo", beta=0.0)
    return [*flat, lf.tanh()], loss, lambda key, z: (
        numbers(key, z[..., 0]), -numbers(key.fold_in(1), z).abs()
    )  # fmt: skip


def dice(r, y):
    if y.ndim < 3:
        raise ValueError("no places")
    return [lf.sigmoid()], reduced(r, "dice"), lambda key, z: keys.uniform(key, tuple(z.shape))


def linear_cross_entropy(r, y):
    n = size(r)
    loss = reduced(r, "linear_cross_entropy", chunk_size=2)
    return [lf.linear_head(n)], loss, lambda key, z: labels(key, *z[0].shape[:-1], n=n)


def weighted(r, y):
    loss = losses.weighted({
        "place": (1.0, losses.mse()), "size": (0.5, losses.huber(reduction="sum")),
    })  # fmt: skip
    head = fork(lf.identity(), lf.dense(size(r)))
    return [head], loss, lambda key, z: (numbers(key, z[0]), numbers(key.fold_in(1), z[1]))


def example_weighted(r, y):
    loss = losses.example_weighted(reduced(r, "huber", delta=0.7))
    return [], loss, lambda key, z: (
        numbers(key, z), numbers(key.fold_in(1), z.reshape(len(z), -1)[:, 0]).abs()
    )  # fmt: skip


LOSSES = {
    "mse": regression("mse"),
    "l1": regression("l1"),
    "smooth_l1": regression("smooth_l1", beta=(0.5, 2.0)),
    "huber": regression("huber", delta=(0.5, 2.0)),
    "softmax_cross_entropy": of_classes("softmax_cross_entropy"),
    "nll": of_classes("nll", lf.log_softmax(1)),
    "cross_entropy": of_classes("cross_entropy", lf.softmax(1)),
    "log_loss": of_two_classes("log_loss", lf.sigmoid()),
    "log_sigmoid_loss": of_two_classes("log_sigmoid_loss", lf.log_sigmoid()),
    "sigmoid_cross_entropy": of_two_classes("sigmoid_cross_entropy"),
    "soft_margin": lambda r, y: ([], reduced(r, "soft_margin"), signs),
    "hinge_embedding": lambda r, y: ([], reduced(r, "hinge_embedding", margin=0.7), signs),
    "multi_margin": of_rows("multi_margin", lambda key, z: labels(key, len(z), n=z.shape[1]),
        p=(2,), margin=(0.7,), weight=lambda n: (class_weights(n),)),
    "multi_label_margin": of_rows("multi_label_margin", some_labels),
    "multi_label_soft_margin": of_rows("multi_label_soft_margin",
        lambda key, z: labels(key, *z.shape, n=2), weight=lambda n: (class_weights(n),)),
    "kl_div": kl_div,
    "poisson_nll": poisson_nll,
    "gaussian_nll": gaussian_nll,
    "margin_ranking": of_several("margin_ranking", 2, lambda key, z: signs(key, z[0]),
        margin=(0.3,)),
    "cosine_embedding": of_several("cosine_embedding", 2, lambda key, z: signs(key, z[0][:, 0]),
        margin=(0.4, -0.5)),
    "triplet_margin": of_several("triplet_margin", 3, lambda key, z: None, p=(1.0, 3.0),
        swap=(True,), margin=(2.0,)),
    "vector_quantization": of_several("vector_quantization", 2, lambda key, z: None, beta=(0.5,)),
    "through": lambda r, y: ([], losses.through(lf.tanh(), losses.mse()), numbers),
    "router_balance": of_router(losses.router_balance()),
    "router_z": of_router(losses.router_z()),
    "flow_nll": flow_nll,
    "ctc": ctc,
    "dpo": of_several("dpo", 2, lambda key, z: (numbers(key, z[0]), numbers(key.fold_in(1), z[0])),
        label_smoothing=(0.1,)),
    "kto": of_several("kto", 2,
        lambda key, z: (signs(key, z[0]) > 0, numbers(key, z[0]), numbers(key.fold_in(1), z[1]))),
    "nt_xent": of_several("nt_xent", 2, lambda key, z: None, temperature=(1.0,)),
    "info_nce": info_nce,
    "ppo_clip": lambda r, y: ([lf.tanh()], reduced(r, "ppo_clip"),
        lambda key, z: (numbers(key, z), -numbers(key.fold_in(1), z).abs())),
    "grpo": grpo,
    "reinforce": lambda r, y: ([], reduced(r, "reinforce", **options(r, baseline=("mean",))),
        numbers),
    "focal": lambda r, y: ([], reduced(r, "focal"), lambda key, z: labels(key, *z.shape, n=2)),
    "dice": dice,
    "distillation": regression("distillation", temperature=(1.0,)),
    "linear_cross_entropy": linear_cross_entropy,
    "weighted": weighted,
    "example_weighted": example_weighted,
}  # fmt: skip
# A loss without a row takes targets like its prediction.
LOSSES |= {
    name: regression(name)
    for name in losses.__all__
    if name not in LOSSES
    and getattr(getattr(losses, name), "__annotations__", {}).get("return") == "Loss"
}
LOSS_WEIGHTS = [4 if name in ("softmax_cross_entropy", "mse") else 1 for name in LOSSES]
