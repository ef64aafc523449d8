"""Spectral norm beside torch's parametrization, which iterates with the same vectors."""

import pytest
import torch
from helpers import normal, same_number
from torch.nn.utils import parametrizations

import lincoln_fn as lf
from lincoln_fn.layers import conv, conv_transpose, dense
from lincoln_fn.layers.spectral_norm import SpectralNormParams, Vectors

LAYERS = {
    "dense": (lf.dense(4), torch.nn.Linear(3, 4), dense.Params, normal(5, 3)),
    "conv": (lf.conv2d(4, 2), torch.nn.Conv2d(3, 4, 2), conv.Params, normal(2, 3, 4, 5)),
    "conv_transpose": (lf.conv_transpose2d(4, 2), torch.nn.ConvTranspose2d(3, 4, 2),
        conv_transpose.Params, normal(2, 3, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("make", [lf.spectral_norm, lf.weight_norm])
def test_an_axis_that_the_weight_lacks_is_refused(make):
    with pytest.raises(lf.LayerError, match=r"expected dim to be an axis of the weight .*, got 2"):
        make(lf.dense(4), dim=2).init(lf.Key(0), normal(5, 3))


@pytest.mark.parametrize("name", LAYERS)
def test_it_iterates_and_divides_as_torchs(name):
    layer, module, params_of, x = LAYERS[name]
    layer, x = lf.spectral_norm(layer), x.double()
    with torch.no_grad():
        for i, leaf in enumerate(module.parameters()):
            leaf.copy_(normal(*leaf.shape, seed=i))
    module = parametrizations.spectral_norm(module.double())
    of_torch = module.parametrizations.weight
    w, before = of_torch.original.detach(), Vectors(of_torch[0]._u.clone(), of_torch[0]._v.clone())
    w = w.mT if name == "dense" else w
    params = SpectralNormParams(params_of(w, module.bias.detach()), before)
    module(x)  # iterates once
    params = layer.advance(params, layer.forward(params, x)[1])
    vectors = params.vectors
    assert same_number((vectors.u, vectors.v), (of_torch[0]._u, of_torch[0]._v))
    y = module.eval()(x)
    assert same_number(layer.predict(params, x), y.detach())
    g = normal(*y.shape, seed=9).double()
    y.backward(g)
    _, gradient = layer.backward(params, layer.forward(params, x)[1], g)
    dw = gradient.layer.weight
    expected = of_torch.original.grad
    assert same_number(dw.mT if name == "dense" else dw, expected)
