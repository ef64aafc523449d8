"""What `benchmarks.optimizers` compares: each optimizer, its learning rates, and torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import nn

import lincoln_fn as lf
from benchmarks.nanogpt import example
from lincoln_fn import optim

BETAS = (0.9, 0.99)
Torchs: TypeAlias = Callable[[nn.Module, float], list[torch.optim.Optimizer]]


class Contender(NamedTuple):
    """An optimizer, the first of its learning rates, and torch's counterpart."""

    make: Callable[[lf.schedules.Schedule], lf.Optimizer]
    first: float
    torch: Torchs | None = None
    gradient: Callable[[], lf.curvature.Gradient] | None = None
    constant: bool = False  # whether its rate stays after the rise


def _torch(kind: type[torch.optim.Optimizer], **options: object) -> Torchs:
    return lambda net, lr: [kind(net.parameters(), lr=lr, **options)]  # type: ignore[call-arg]


def _torch_muon(net: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in net.named_parameters() if "blocks" in name and p.ndim == 2]
    others = [p for p in net.parameters() if all(p is not matrix for matrix in matrices)]
    adamw = torch.optim.AdamW(others, lr, betas=BETAS, weight_decay=0.1)
    return [torch.optim.Muon(matrices, lr, adjust_lr_fn="match_rms_adamw"), adamw]


def _is_hidden(path: str) -> bool:
    """Return whether a parameter is a matrix of a block."""
    return path.startswith("0.1.1.") and not path.endswith(".0.weight")


def _muon(lr: lf.schedules.Schedule) -> lf.Optimizer:
    muon = optim.muon(lr, adjust_lr_fn="match_rms_adamw")
    return optim.by_path({_is_hidden: muon, "*": optim.adamw(lr, BETAS, weight_decay=0.1)})


def _kfac(lr: lf.schedules.Schedule) -> lf.Optimizer:
    """Step along K-FAC's gradient; what it leaves as it is gets nanoGPT's AdamW."""
    adamw = optim.adamw(example.LR, BETAS, weight_decay=0.1)
    return optim.by_path({_is_hidden: optim.sgd(lr, momentum=0.9), "*": adamw})


def _schedule_free(lr: lf.schedules.Schedule) -> lf.Optimizer:
    inner = optim.adamw(lr, (0.0, BETAS[1]), weight_decay=0.1)
    return optim.chain(optim.schedule_free(lr=lr), inner)


T = torch.optim
CONTENDERS = {
    "sgd": Contender(lambda lr: optim.sgd(lr, momentum=0.9), 0.1, _torch(T.SGD, momentum=0.9)),
    "adagrad": Contender(optim.adagrad, 1e-2, _torch(T.Adagrad)),
    "rmsprop": Contender(optim.rmsprop, 1e-3, _torch(T.RMSprop)),
    "adadelta": Contender(optim.adadelta, 3.0, _torch(T.Adadelta)),
    "adam": Contender(lambda lr: optim.adam(lr, BETAS), 3e-3, _torch(T.Adam, betas=BETAS)),
    "adamw": Contender(
        lambda lr: optim.adamw(lr, BETAS, weight_decay=0.1),
        3e-3,
        _torch(T.AdamW, betas=BETAS, weight_decay=0.1),
    ),
    "adamax": Contender(lambda lr: optim.adamax(lr, BETAS), 3e-3, _torch(T.Adamax, betas=BETAS)),
    "nadam": Contender(lambda lr: optim.nadam(lr, BETAS), 3e-3, _torch(T.NAdam, betas=BETAS)),
    "radam": Contender(lambda lr: optim.radam(lr, BETAS), 3e-3, _torch(T.RAdam, betas=BETAS)),
    "asgd": Contender(optim.asgd, 1.0, _torch(T.ASGD)),
    # It takes no schedule: the rate after the rise.
    "rprop": Contender(
        lambda lr: optim.rprop(lr(10**9).item()), 1e-4, _torch(T.Rprop), constant=True
    ),
    "lion": Contender(lambda lr: optim.lion(lr, weight_decay=0.1), 1e-3),
    "adafactor": Contender(optim.adafactor, 3e-2, _torch(T.Adafactor)),
    "lamb": Contender(lambda lr: optim.lamb(lr, BETAS), 1e-2),
    "adabelief": Contender(lambda lr: optim.adabelief(lr, BETAS), 1e-3),
    "adan": Contender(optim.adan, 3e-3),
    "lars": Contender(optim.lars, 1.0),
    "prodigy": Contender(lambda lr: optim.prodigy(lr, BETAS), 1.0),
    "schedule_free": Contender(_schedule_free, 1e-2, constant=True),
    "muon": Contender(_muon, 3e-3, _torch_muon),
    "shampoo": Contender(lambda lr: optim.shampoo(lr, every=10), 3e-2),
    "soap": Contender(lambda lr: optim.soap(lr, weight_decay=0.1), 3e-3),
    "galore": Contender(
        lambda lr: optim.chain(optim.galore(32), optim.adamw(lr, BETAS, weight_decay=0.1)), 1e-2
    ),
    "kfac": Contender(_kfac, 3e-2, gradient=lambda: lf.curvature.kfac(1e-2, every=10)),
}
