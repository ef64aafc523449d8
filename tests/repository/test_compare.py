"""The comparisons that all tests make find what they are for, and nothing else."""

import re
from pathlib import Path

import pytest
import torch
from helpers import normal, same_bits, same_number, same_statistics

import lincoln_fn as lf

LAYER = lf.serial(lf.dense(300), lf.tanh(), lf.batch_norm(), lf.dense(3))
X = normal(40, 200)
PARAMS = LAYER.init(lf.Key(0), X)
NAN = torch.tensor([1.0, torch.nan])


def test_a_tree_is_itself():
    assert same_bits(PARAMS, lf.tree.map(torch.clone, PARAMS))
    assert same_number(PARAMS, PARAMS)
    assert same_bits((1, "a", 0.5, None), (1, "a", 0.5, None))
    assert not same_bits((1, "a"), (1, "b"))


def test_a_flipped_bit_is_found():
    flipped = X.clone()
    flipped.view(torch.int32)[3, 5] ^= 1
    assert same_bits(X, flipped).difference.startswith("1 of 8000 differ")
    assert same_number(X, flipped)
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    assert same_number(torch.tensor(0.0), torch.tensor(-0.0))


@pytest.mark.parametrize(
    ("dtype", "error"),
    [
        (torch.float64, 1e-9), (torch.float32, 1e-3), (torch.bfloat16, 0.1), (torch.float16, 0.01),
    ],
)  # fmt: skip
def test_a_small_error_is_found(dtype, error):
    x = X.to(dtype)
    assert not same_number(x * (1 + error), x)
    assert not same_number((x, x * (1 - error)), (x, x))
    assert same_number(x * (1 + torch.finfo(dtype).eps), x)
    assert not same_number(x.double() * (1 + error), x.double(), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_another_order_of_summing_is_the_same_number(dtype):
    x, w = X.to(dtype), normal(200, 9, seed=1).to(dtype)
    order = torch.arange(199, -1, -1)
    assert same_number(x[:, order] @ w[order], x @ w)
    assert same_number(sum(x[:, i, None] * w[i] for i in range(200)), x @ w)
    # Sums that cancel are held to the size of their terms.
    zero = (x - x.mean(0)).sum(0)
    assert not same_number(zero, torch.zeros_like(zero))
    assert same_number(zero, torch.zeros_like(zero), terms=x.abs().sum(0))
    assert same_number((zero, x), (torch.zeros_like(zero), x), terms=(x.abs().sum(0), 1.0))


def test_nan_equals_nan_only_by_its_bits():
    assert same_bits(NAN, NAN.clone())
    assert not same_number(NAN, NAN)
    assert not same_number(NAN, NAN.nan_to_num())
    infinite = torch.tensor([torch.inf, -torch.inf, 2.0])
    assert same_number(infinite, infinite * 1.000001)
    assert not same_number(infinite, -infinite)
    assert not same_number(infinite, infinite.clamp(max=1e38))


@pytest.mark.parametrize("same", [same_bits, same_number])
@pytest.mark.parametrize(
    ("given", "expected", "message"),
    [
        (X, X[:1], r"shape \(40, 200\), not \(1, 200\)"),
        (X, X.double(), "torch.float32, not torch.float64"),
        ((X, X), (X,), "another structure"),
        ((X,), X, "another structure"),
        ({"a": X}, {"b": X}, "another structure"),
        ((X, torch.arange(3)), (X, torch.arange(3) + 1), "1: "),
        ([1, 2.0], [1, 2.1], "1: "),
        (lf.Key(0), lf.Key(1), "bits: "),
    ],
)
def test_structure_shapes_dtypes_and_integers_must_agree(same, given, expected, message):
    assert re.match(message, same(given, expected).difference)


def test_numbers_of_python_are_compared_in_the_dtype_of_the_others():
    third = torch.tensor(1 / 3)
    assert same_number(third, 1 / 3)
    assert not same_number(third.item(), 1 / 3)
    assert same_number(third.item(), 1 / 3, dtype=torch.float32)
    assert same_number([third.item(), 1.0], [1 / 3, 1], dtype=torch.float32)


def test_draws_are_held_to_their_standard_error():
    draws = lf.keys.uniform(lf.Key(0), (10_000,))
    std = (1 / 12) ** 0.5
    assert same_statistics(draws, mean=0.5, std=std)
    assert not same_statistics(draws, mean=0.5 + 0.1 * std)
    assert not same_statistics(draws, std=1.1 * std)
    assert not same_statistics(torch.stack((draws, draws + 0.1), 1), mean=0.5)
    assert not same_statistics(torch.ones(10), mean=1.1)


def test_each_comparison_is_asserted():
    alone = re.compile(r"^\s*same_(bits|number|statistics)\(", re.MULTILINE)
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    assert len(files) > 100
    assert not [file.name for file in files if alone.search(file.read_text())]
