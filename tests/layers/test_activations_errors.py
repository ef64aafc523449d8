"""What activations are wrongly given: hyperparameters, dtypes, shapes, caches."""

import torch
from helpers.refusals import refused

import lincoln_fn as lf
from lincoln_fn import layers

test_wrong_hyperparameters = refused([
    (lambda: lf.gelu("exact"), "gelu: expected approximate to be 'none' or 'tanh', got 'exact'"),
    (lambda: lf.softplus(0.0), "softplus: expected beta above 0, got 0.0"),
    (lambda: lf.celu(0.0), "celu: expected alpha above 0, got 0.0"),
    (lambda: lf.prelu(0), "prelu: expected num_parameters of at least 1, got 0"),
    (lambda: lf.rrelu(0.3, 0.2), "rrelu: expected lower at most upper, got (0.3, 0.2)"),
    (lambda: lf.hardtanh(1.0, 1.0), "hardtanh: expected min_val below max_val, got (1.0, 1.0)"),
    (lambda: lf.clamp(), "clamp: expected min or max, got (None, None)"),
    (lambda: lf.clamp(1.0, 0.0), "clamp: expected min not above max, got (1.0, 0.0)"),
    (lambda: lf.hardshrink(-0.1), "hardshrink: expected lambd of at least 0, got -0.1"),
    (lambda: lf.softshrink(-0.1), "softshrink: expected lambd of at least 0, got -0.1"),
])  # fmt: skip


test_wrong_inputs = refused([
    (lambda: lf.glu().forward((), torch.zeros(2, 3)),
        "glu: expected x of even size along dim=-1, got (2, 3)"),
    (lambda: lf.glu(dim=2).forward((), torch.zeros(2, 4)),
        "glu: expected x to have an axis dim=2, got shape (2, 4)"),
    (lambda: lf.glu().backward((), lf.glu().forward((), torch.zeros(2, 4))[1], torch.zeros(2, 4)),
        "glu: expected g of shape (2, 2), got (2, 4)"),
    (lambda: lf.softmin(dim=2).forward((), torch.zeros(2, 4)),
        "softmin: expected x to have an axis dim=2, got shape (2, 4)"),
    (lambda: lf.softmax(dim=1).forward((), torch.zeros(())),
        "softmax: expected x to have an axis dim=1, got shape ()"),
    (lambda: lf.log_softmax(dim=-2).forward((), torch.zeros(())),
        "log_softmax: expected x to have an axis dim=-2, got shape ()"),
    (lambda: lf.glu().forward((), torch.zeros(())),
        "glu: expected x to have an axis dim=-1, got shape ()"),
    (lambda: lf.prelu(3).init(lf.Key(0), torch.zeros(2, 4)),
        "prelu(3): expected x of shape (batch, 3, ...), got (2, 4)"),
    (lambda: lf.prelu(3).forward(layers.prelu.Params(torch.ones(3)), torch.zeros(3)),
        "prelu(3): expected x of shape (batch, 3, ...), got (3,)"),
    (lambda: lf.prelu().forward(layers.prelu.Params(torch.ones(1)), torch.zeros(3).double()),
        "prelu: expected x of dtype torch.float32, got torch.float64; "
        "convert it by x.to(torch.float32)"),
    (lambda: lf.prelu().forward((), torch.zeros(3)), "prelu: expected params prelu.Params, got ()"),
    (lambda: lf.prelu().backward((), torch.zeros(3), torch.zeros(3)),
        "prelu: expected params prelu.Params, got ()"),
    (lambda: lf.prelu().init(lf.Key(0), torch.zeros(3).int()),
        "prelu: expected x of a floating dtype, got torch.int32; convert it first, say by"
        " x.float()"),
    (lambda: lf.rrelu().init(lf.Key(0), torch.zeros(3).int()),
        "rrelu: expected x of a floating dtype, got torch.int32; convert it first, say by"
        " x.float()"),
    *(
        (call, "rrelu: expected params rrelu.Params, got ()")
        for call in (
            lambda: lf.rrelu().forward((), torch.zeros(3)),
            lambda: lf.rrelu().predict((), torch.zeros(3)),
            lambda: lf.rrelu().backward((), torch.zeros(3), torch.zeros(3)),
            lambda: lf.rrelu().advance((), torch.zeros(3)),
        )
    ),
])  # fmt: skip
