"""The nearest codes of a vector quantisation, and its running means, computed code by code."""

import pytest
import torch
from helpers import assert_says, first_run, normal, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.layers.vector_quantize import Codebook, RunningCodebook, nearest


def test_codes_are_running_means_of_their_vectors():
    layer, x = lf.vector_quantize(3, decay=0.9), normal(8, 2).double()
    weight = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [90.0, 0.0]]).double()
    params = RunningCodebook(weight, torch.ones(3).double(), weight)
    counts, totals = [1.0] * 3, list(weight)
    for _ in range(2):
        codes = nearest(params, x).tolist()
        params = layer.advance(params, layer.forward(params, x)[1])
        for v in range(3):
            own = [row for row, code in zip(x, codes, strict=True) if code == v]
            counts[v] = 0.9 * counts[v] + 0.1 * len(own)
            totals[v] = 0.9 * totals[v] + 0.1 * sum(own)
        means = [total / count for total, count in zip(totals, counts, strict=True)]
        assert same_number(params.weight, torch.stack(means))
    assert same_number(params.weight[2], weight[2])  # no vector had it


def test_a_code_without_vectors_for_long_stays():
    layer, x = lf.vector_quantize(2, decay=0.5), torch.zeros(4, 1)
    weight = torch.tensor([[0.0], [7.0]])
    params = RunningCodebook(weight, torch.tensor([1.0, 1e-30]), torch.tensor([[0.0], [0.0]]))
    assert same_bits(layer.advance(params, layer.forward(params, x)[1]).weight[1], weight[1])


def test_a_wrong_g_is_refused():
    layer, x = lf.vector_quantize(2), normal(3, 2)
    params, _, cache = first_run(layer, x)
    assert_says("expected g with 3 entries", layer.backward, params, cache, x)
    with pytest.raises(lf.LayerError, match=r"expected g of shape \(3, 2\), got \(1, 2\)"):
        layer.backward(params, cache, (x, x[:1], x))


@pytest.mark.parametrize("centre", [0.0, 1e4, -1e4])
def test_the_nearest_code_is_found_far_from_0(centre):
    codes = torch.tensor([[0.0], [1.0]]) + centre
    x = torch.tensor([[0.9], [0.1], [1.0]]) + centre
    assert nearest(Codebook(codes), x).tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_nearest_code_in_half_precision_is_that_of_float32(dtype):
    codes = lf.keys.normal(lf.Key(0), (32, 300)).to(dtype) * 100
    x = lf.keys.normal(lf.Key(1), (64, 300)).to(dtype) * 100
    distance = (x.double().unsqueeze(1) - codes.double()).square().sum(-1)
    assert torch.equal(nearest(Codebook(codes), x), distance.argmin(-1))
