"""What from_torch refuses, and how it says so."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import lincoln_fn as lf
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


def half_frozen():
    module = nn.Linear(3, 4)
    module.weight.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Fold(2, 2), f"from_torch: Fold: has no counterpart here{BY_MODULE}"),
        (Doubled(nn.ReLU()), f"from_torch: Doubled: has no counterpart here{BY_MODULE}"),
        (
            nn.Sequential(nn.ReLU(), nn.Sequential(Own(2, 3))),
            f"from_torch: 1.0 Own: has no counterpart here{BY_MODULE}",
        ),
        (
            nn.Sequential(OrderedDict(head=nn.LSTM(3, 4, proj_size=2))),
            f"from_torch: head LSTM: expected proj_size=0, got 2{BY_MODULE}",
        ),
        (
            nn.GRU(3, 4, 2, batch_first=True, dropout=0.5),
            f"from_torch: GRU: expected dropout=0.0, got 0.5{BY_MODULE}",
        ),
        (
            nn.LSTM(3, 4, batch_first=True, proj_size=2),
            f"from_torch: LSTM: expected proj_size=0, got 2{BY_MODULE}",
        ),
        (
            nn.MultiheadAttention(4, 2, add_zero_attn=True, batch_first=True),
            f"from_torch: MultiheadAttention: expected add_zero_attn=False, got True{BY_MODULE}",
        ),
        (
            nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 3, activation=torch.tanh), 2),
            "from_torch: layers.0 TransformerDecoderLayer: expected activation relu or gelu, got "
            f"{torch.tanh}{BY_MODULE}",
        ),
        (
            nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 3), 2, Own(4, 4)),
            f"from_torch: norm Own: has no counterpart here{BY_MODULE}",
        ),
        (
            nn.Transformer(4, 2, custom_encoder=Own(4, 4), custom_decoder=nn.Linear(4, 4)),
            f"from_torch: encoder Own: has no counterpart here{BY_MODULE}",
        ),
        (
            Stack(nn.TransformerEncoderLayer(4, 2, 3, batch_first=True), 2),
            f"from_torch: Stack: has no counterpart here{BY_MODULE}",
        ),
        (
            nn.TransformerDecoderLayer(4, 2, 3, activation=torch.tanh, batch_first=True),
            "from_torch: TransformerDecoderLayer: expected activation relu or gelu, got "
            f"{torch.tanh}{BY_MODULE}",
        ),
        (
            nn.TransformerEncoderLayer(4, 2, 3, activation=nn.GELU("tanh"), batch_first=True),
            "from_torch: TransformerEncoderLayer: expected activation relu or gelu, got "
            f"GELU(approximate='tanh'){BY_MODULE}",
        ),
        (
            changed(nn.TransformerEncoderLayer(4, 2, 3), "norm2", "eps", 0.5),
            "from_torch: TransformerEncoderLayer: expected norm2.eps=1e-05, as in norm1.eps, got "
            f"0.5{BY_MODULE}",
        ),
        (
            changed(nn.TransformerDecoderLayer(4, 2, 3), "dropout3", "p", 0.5),
            "from_torch: TransformerDecoderLayer: expected dropout3.p=0.1, as in self_attn.dropout,"
            f" got 0.5{BY_MODULE}",
        ),
        (
            replaced(nn.TransformerEncoderLayer(4, 2, 3, bias=False), "norm1", nn.RMSNorm(4)),
            "from_torch: TransformerEncoderLayer: expected norm1 of LayerNorm, got RMSNorm"
            + BY_MODULE,
        ),
        (
            nn.Softmax(),
            f"from_torch: Softmax: expected dim=0 or another axis, got None{BY_MODULE}",
        ),
        (
            nn.FractionalMaxPool2d(2, 3, _random_samples=torch.zeros(1, 1, 2)),
            "from_torch: FractionalMaxPool2d: expected _random_samples=None, got "
            f"{torch.zeros(1, 1, 2)}{BY_MODULE}",
        ),
        (
            nn.Embedding(3, 4, max_norm=1.0),
            f"from_torch: Embedding: expected max_norm=None, got 1.0{BY_MODULE}",
        ),
        (
            nn.Upsample(scale_factor=2.0, recompute_scale_factor=True),
            f"from_torch: Upsample: expected recompute_scale_factor=None, got True{BY_MODULE}",
        ),
        (
            nn.InstanceNorm1d(3, momentum=None, track_running_stats=True),
            "from_torch: InstanceNorm1d: expected a momentum, got momentum=None with "
            f"track_running_stats=True{BY_MODULE}",
        ),
        (
            half_frozen(),
            "from_torch: Linear: expected all of its parameters or none to require a gradient",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_has_no_counterpart_is_named_with_its_path(module, message):
    with pytest.raises(lf.LayerError) as raised:
        from_torch(module)
    assert str(raised.value) == message


def test_tied_parameters_are_refused():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    with pytest.raises(lf.LayerError) as raised:
        from_torch(module)
    problem = "0.weight and 1.weight are one tensor, and would become two"
    mend = "in which it is one; or convert the parts one by one, and connect them by lf.tied"
    assert str(raised.value) == f"from_torch: {problem}{BY_MODULE}, {mend}"
    norm = nn.BatchNorm1d(3, affine=False)
    with pytest.raises(lf.LayerError, match=r"0\.running_mean and 1\.running_mean"):
        from_torch(nn.Sequential(norm, norm))


def test_a_part_without_counterpart_is_named_before_tied_parameters():
    module = nn.Sequential(nn.Linear(3, 3), Own(3, 3))
    module[1].weight = module[0].weight
    with pytest.raises(lf.LayerError, match="from_torch: 1 Own: has no counterpart here"):
        from_torch(module)


def test_a_parameter_that_the_counterpart_has_not_is_refused():
    module = nn.Linear(2, 3)
    module.register_buffer("mask", torch.ones(3))
    with pytest.raises(lf.LayerError) as raised:
        from_torch(module)
    problem = f"expected tensors by torch's names; mask: unexpected{BY_MODULE}"
    assert str(raised.value) == f"from_torch: Linear: {problem}"
