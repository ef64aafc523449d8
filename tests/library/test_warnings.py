"""What works, and rarely as it was meant: one warning, at the user's line, with what to write."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import assert_says, normal, same_bits

import lincoln_fn as lf
from lincoln_fn import optim, per_example
from lincoln_fn.training.data import batches

KEY, T = lf.Key(0), torch.arange(4)
IMAGES = np.zeros((4, 28, 28, 1), np.float32)
NUMBERS = np.arange(12.0).reshape(4, 3)

# By case: what is warned of, the warning's beginning, and the same as it should be.
CASES = {
    "sgd: momentum": (
        lambda: optim.sgd(0.1, momentum=1.5), "sgd: momentum=1.5 makes each step longer",
        lambda: optim.sgd(0.1, momentum=1.0),
    ),
    **{
        f"{make.__name__}: eps": (
            lambda make=make: make(eps=0), f"{make.__name__}: eps=0 gives 0 / 0",
            lambda make=make: make(eps=1e-8),
        )
        for make in (
            optim.adadelta, optim.adagrad, optim.adam, optim.adamax, optim.adamw, optim.lamb,
            optim.nadam, optim.radam, optim.rmsprop,
        )
    },
    "noise without a batch size": (
        lambda: per_example.clipped(1.0, noise=1.1), "clipped: noise without batch_size is divided",
        lambda: per_example.clipped(1.0, noise=1.1, batch_size=4),
    ),
    "an array in float64": (
        lambda: batches((NUMBERS, T), 2), "batches: x is float64, numpy's default",
        lambda: batches((torch.as_tensor(NUMBERS), T), 2),
    ),
    "a frame in float64": (
        lambda: batches((pd.DataFrame(NUMBERS), T), 2), "batches: x is float64, numpy's default",
        lambda: batches((pd.DataFrame(NUMBERS).astype("float32"), NUMBERS), 2),
    ),
    "images with the channels last": (
        lambda: lf.conv2d(2, 3).init(KEY, torch.as_tensor(IMAGES)),
        "conv2d: x of shape (4, 28, 28, 1) has 28 channels",
        lambda: lf.conv2d(2, 3).init(KEY, torch.as_tensor(IMAGES).movedim(-1, -3)),
    ),
    "one image with the channels last": (
        lambda: lf.serial(lf.conv2d(2, 3), lf.relu()).init(KEY, torch.zeros(32, 32, 3)),
        "conv2d: x of shape (32, 32, 3) has 32 channels",
        # Maps of 32 channels that a part has made three wide.
        lambda: lf.serial(lf.identity(), lf.conv2d(2, 3)).init(KEY, torch.zeros(2, 32, 32, 3)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_doubtful_use_is_warned_of_once_at_its_line(case):
    doubtful, said, sensible = CASES[case]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            doubtful()
    assert [str(warning.message)[: len(said)] for warning in told] == [said]
    assert told[0].filename == __file__
    sensible()


def test_without_eps_a_gradient_of_0_gives_nan_as_in_torch():
    with pytest.warns(UserWarning, match="eps=0"):
        optimizer = optim.adam(0.1, eps=0)
    p, dp = torch.ones(2), torch.tensor([0.0, 3.0])
    theirs = torch.nn.Parameter(p.clone())
    theirs.grad = dp.clone()
    torch.optim.Adam([theirs], 0.1, eps=0).step()
    given, _ = optimizer.update(p, dp, optimizer.init(p))
    assert given.isnan().tolist() == theirs.isnan().tolist() == [True, False]
    assert same_bits(given[1], theirs.detach()[1])


def test_images_with_the_channels_last_are_told_how_to_put_them_first():
    net, x = lf.conv2d(2, 3), normal(4, 3, 8, 8)
    params = net.init(KEY, x)
    assert_says("got (4, 8, 8, 3); write x.movedim(-1, -3)", net.predict, params, x.movedim(1, -1))
    assert same_bits(net.predict(params, x.movedim(1, -1).movedim(-1, -3)), net.predict(params, x))
