"""Convolutions: edge cases and how parameters begin."""

import pytest
import torch
from helpers.cases import convolution
from helpers.compare import same_number
from helpers.convolutions import MAKERS, axes_of, input_for, run
from torch import nn

import lincoln_fn as lf
from lincoln_fn.initializers import Initializer

# Edge cases


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_empty_batch(maker, mode):
    options = {"padding_mode": mode} if maker in MAKERS[:3] else {}
    layer, x = maker(6, 3, padding=1, groups=2, **options), input_for(maker, batch=0)
    params = layer.init(lf.Key(0), x)
    y, dx, dweight, dbias, _ = run(layer, params, x)
    assert y.shape == (0, 6, *(x.shape[2:] if maker in MAKERS[:3] else y.shape[2:]))
    assert dx.shape == x.shape
    assert same_number((dweight, dbias), (torch.zeros_like(params.weight), torch.zeros(6)))


@pytest.mark.parametrize("maker", MAKERS)
def test_an_unbatched_input_is_a_batch_of_one(maker):
    layer, x = maker(6, 3, 2, 1), input_for(maker, batch=1)
    params = layer.init(lf.Key(0), x[0])
    batched, single = run(layer, params, x), run(layer, params, x[0])
    assert same_number(single[:4], (batched[0][0], batched[1][0], *batched[2:4]))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(maker, dtype):
    layer, x = maker(6, 3, 2, 1, dilation=2), input_for(maker, dtype=dtype)
    params = layer.init(lf.Key(0), x)
    given = run(layer, params, x)
    expected = run(layer, lf.tree.map(torch.Tensor.float, params), x.float())
    assert {leaf.dtype for leaf in given} == {dtype}
    assert same_number(
        given, expected, dtype=torch.bfloat16 if dtype is torch.bfloat16 else torch.float32
    )


# Parameters


@pytest.mark.parametrize("maker", MAKERS)
def test_initial_values_are_torch_s(maker):
    n, seen = axes_of(maker), []

    def draw(key, shape, fans, dtype):
        seen.append((fans, key))
        return torch.zeros(shape, dtype=dtype)

    spy = Initializer("spy", draw)
    maker(6, 3, groups=2, weight_init=spy, bias_init=spy).init(lf.Key(0), input_for(maker))
    transposed = maker in MAKERS[3:]
    shape = (4, 3, *[3] * n) if transposed else (6, 2, *[3] * n)
    fans = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert [tuple(one) for one, _ in seen] == [fans, fans]
    assert seen[0][1].bits != seen[1][1].bits

    params = maker(6, 3, groups=2).init(lf.Key(0), input_for(maker, dtype=torch.float64))
    assert params.weight.shape == shape
    assert params.bias.shape == (6,)
    assert params.weight.dtype is params.bias.dtype is torch.float64
    bound = fans[0] ** -0.5
    assert 0.8 * bound < params.weight.abs().max() <= bound
    assert 0.4 * bound < params.bias.abs().max() <= bound
    assert maker(6, 3, bias=False).init(lf.Key(0), input_for(maker)).bias is None


@pytest.mark.parametrize("case", convolution.CASES, ids=str)
def test_the_shape_of_y_is_known_beforehand(case):
    params = case.params()
    y, cache = case.layer.forward(params, case.x)
    case.layer.backward(params, cache, torch.zeros_like(y))
    for axis in range(y.ndim):
        with pytest.raises(lf.LayerError, match="expected g of shape"):
            case.layer.backward(params, cache, torch.cat([y, y.narrow(axis, 0, 1)], axis))
