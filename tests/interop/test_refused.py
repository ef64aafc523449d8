"""What from_torch refuses, and how it says so."""

from collections import OrderedDict

import pytest
import torch
from helpers import assert_refused, assert_says
from torch import nn

from lincoln_fn.interop import from_torch

BY_MODULE = "; make one layer of it by from_module"


class Own(nn.Linear):
    """What a subclass computes is not known."""

    def forward(self, x):
        return super().forward(x) * 2


class Doubled(nn.Sequential):
    """Computes something else."""

    def forward(self, x):
        return super().forward(x) * 2


class Stack(nn.TransformerEncoder):
    """What a subclass computes is not known, though it has torch's names."""


def changed(module, part, option, value):
    setattr(getattr(module, part), option, value)
    return module


def replaced(module, part, other):
    setattr(module, part, other)
    return module


NO_COUNTERPART = "has no counterpart here"
BLOCK, DECODER = nn.TransformerEncoderLayer, nn.TransformerDecoderLayer
# By module: its place in the error, and the problem.
REFUSED = [
    (nn.Fold(2, 2), "Fold", NO_COUNTERPART),
    (Doubled(nn.ReLU()), "Doubled", NO_COUNTERPART),
    (nn.Sequential(nn.ReLU(), nn.Sequential(Own(2, 3))), "1.0 Own", NO_COUNTERPART),
    (nn.Sequential(OrderedDict(head=nn.LSTM(3, 4, proj_size=2))),
     "head LSTM", "expected proj_size=0, got 2"),
    (nn.GRU(3, 4, 2, batch_first=True, dropout=0.5), "GRU", "expected dropout=0.0, got 0.5"),
    (nn.LSTM(3, 4, batch_first=True, proj_size=2), "LSTM", "expected proj_size=0, got 2"),
    (nn.MultiheadAttention(4, 2, add_zero_attn=True, batch_first=True),
     "MultiheadAttention", "expected add_zero_attn=False, got True"),
    (nn.TransformerDecoder(DECODER(4, 2, 3, activation=torch.tanh), 2),
     "layers.0 TransformerDecoderLayer", f"expected activation relu or gelu, got {torch.tanh}"),
    (nn.TransformerDecoder(DECODER(4, 2, 3), 2, Own(4, 4)), "norm Own", NO_COUNTERPART),
    (nn.Transformer(4, 2, custom_encoder=Own(4, 4), custom_decoder=nn.Linear(4, 4)),
     "encoder Own", NO_COUNTERPART),
    (Stack(BLOCK(4, 2, 3, batch_first=True), 2), "Stack", NO_COUNTERPART),
    (DECODER(4, 2, 3, activation=torch.tanh, batch_first=True),
     "TransformerDecoderLayer", f"expected activation relu or gelu, got {torch.tanh}"),
    (BLOCK(4, 2, 3, activation=nn.GELU("tanh"), batch_first=True),
     "TransformerEncoderLayer", "expected activation relu or gelu, got GELU(approximate='tanh')"),
    (changed(BLOCK(4, 2, 3), "norm2", "eps", 0.5),
     "TransformerEncoderLayer", "expected norm2.eps=1e-05, as in norm1.eps, got 0.5"),
    (changed(DECODER(4, 2, 3), "dropout3", "p", 0.5),
     "TransformerDecoderLayer", "expected dropout3.p=0.1, as in self_attn.dropout, got 0.5"),
    (replaced(BLOCK(4, 2, 3, bias=False), "norm1", nn.RMSNorm(4)),
     "TransformerEncoderLayer", "expected norm1 of LayerNorm, got RMSNorm"),
    (nn.Softmax(), "Softmax", "expected dim=0 or another axis, got None"),
    (nn.FractionalMaxPool2d(2, 3, _random_samples=torch.zeros(1, 1, 2)),
     "FractionalMaxPool2d", f"expected _random_samples=None, got {torch.zeros(1, 1, 2)}"),
    (nn.Embedding(3, 4, max_norm=1.0), "Embedding", "expected max_norm=None, got 1.0"),
    (nn.Upsample(scale_factor=2.0, recompute_scale_factor=True),
     "Upsample", "expected recompute_scale_factor=None, got True"),
    (nn.InstanceNorm1d(3, momentum=None, track_running_stats=True), "InstanceNorm1d",
     "expected a momentum, got momentum=None with track_running_stats=True"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "place", "problem"), REFUSED, ids=[type(row[0]).__name__ for row in REFUSED]
)
def test_what_has_no_counterpart_is_named_with_its_path(module, place, problem):
    assert_refused(f"from_torch: {place}: {problem}{BY_MODULE}", from_torch, module)


def test_a_module_that_is_half_frozen_is_refused():
    module = nn.Linear(3, 4)
    module.weight.requires_grad_(False)
    problem = "expected all of its parameters or none to require a gradient"
    assert_refused(f"from_torch: Linear: {problem}", from_torch, module)


def test_tied_parameters_are_refused():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    problem = "0.weight and 1.weight are one tensor, and would become two"
    mend = "in which it is one; or convert the parts one by one, and connect them by lf.tied"
    assert_refused(f"from_torch: {problem}{BY_MODULE}, {mend}", from_torch, module)
    norm = nn.BatchNorm1d(3, affine=False)
    assert_says("0.running_mean and 1.running_mean", from_torch, nn.Sequential(norm, norm))


def test_a_part_without_counterpart_is_named_before_tied_parameters():
    module = nn.Sequential(nn.Linear(3, 3), Own(3, 3))
    module[1].weight = module[0].weight
    assert_says("from_torch: 1 Own: has no counterpart here", from_torch, module)


def test_a_parameter_that_the_counterpart_has_not_is_refused():
    module = nn.Linear(2, 3)
    module.register_buffer("mask", torch.ones(3))
    problem = f"expected tensors by torch's names; mask: unexpected{BY_MODULE}"
    assert_refused(f"from_torch: Linear: {problem}", from_torch, module)
