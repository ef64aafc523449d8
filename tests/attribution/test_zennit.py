"""Relevance equals zennit's, for every rule and composite that both have."""

from functools import cache, partial

import pytest
import torch
from helpers import same_number
from torch import nn

import lincoln_fn as lf
from lincoln_fn.attribution import kinds, rules

pytest.importorskip("zennit", reason="zennit is not installed")
import zennit.attribution  # only if there is zennit
import zennit.canonizers
import zennit.composites
import zennit.rules
import zennit.types

X = lf.keys.normal(lf.Key(1), (3, 2, 12, 10), dtype=torch.float64)
TARGET = torch.tensor([1, 4, 0])
LOW, HIGH = torch.tensor([[[-4.0]], [[-3.5]]]), torch.tensor([[[3.0]], [[4.5]]])

VGG = (
    lf.serial(lf.conv2d(4, 3, padding=1), lf.relu(), lf.conv2d(4, 3, padding=1), lf.relu(),
        lf.max_pool2d(2), lf.conv2d(6, 3, padding=1, groups=2, bias=False), lf.batch_norm(),
        lf.relu(), lf.max_pool2d(2), lf.adaptive_avg_pool2d((2, 2)),
        lf.flatten(), lf.dense(8), lf.relu(), lf.dropout(0.5), lf.dense(6)),
    nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(6),
        nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6)),
)  # fmt: skip


@cache
def drawn():
    """Give a network, its params, and torch's module with the same numbers."""
    net, module = VGG
    params = net.init(lf.Key(2), X)
    for _ in range(3):  # running statistics that are not the first ones
        params = net.advance(params, net.forward(params, X)[1])
    module = module.double().eval()
    with torch.no_grad():
        for layer, part in zip(module, params, strict=True):
            if isinstance(layer, nn.BatchNorm2d):
                weight = lf.keys.uniform(lf.Key(3), (6,), 0.5, 2.0, dtype=torch.float64)
                part = lf.evolve(part, weight=weight, bias=weight - 1)
                params = (*params[:6], part, *params[7:])
                layer.running_mean.copy_(part.running.mean)
                layer.running_var.copy_(part.running.var)
            for name, own in layer.named_parameters():
                ours = getattr(part, name)
                own.copy_(ours.mT if isinstance(layer, nn.Linear) and name == "weight" else ours)
    assert same_number(net.predict(params, X), module(X))
    return net, params, module


# What zennit adds by default to that by which it divides.
STABILIZER = 1e-6


def theirs(module, composite):
    with zennit.attribution.Gradient(module, composite) as attributor:
        return attributor(X.clone(), lambda y: y * nn.functional.one_hot(TARGET, 6))[1]


RULES = {
    "epsilon": (rules.epsilon(), zennit.rules.Epsilon()),
    "epsilon 0.25": (rules.epsilon(0.25), zennit.rules.Epsilon(0.25)),
    "epsilon without bias": (
        rules.epsilon(zero_bias=True), zennit.rules.Epsilon(zero_params="bias")),
    "gamma": (rules.gamma(), zennit.rules.Gamma()),
    "gamma 2": (rules.gamma(2.0, 0.1), zennit.rules.Gamma(2.0, 0.1)),
    "z_plus": (rules.z_plus(), zennit.rules.ZPlus()),
    "z_plus without bias": (rules.z_plus(zero_bias=True), zennit.rules.ZPlus(zero_params="bias")),
    "alpha_beta": (rules.alpha_beta(), zennit.rules.AlphaBeta()),
    "alpha_beta 3": (rules.alpha_beta(3.0, 2.0, 0.1), zennit.rules.AlphaBeta(3.0, 2.0, 0.1)),
    "w_square": (rules.w_square(), zennit.rules.WSquare()),
    "flat": (rules.flat(), zennit.rules.Flat()),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_each_rule_for_all_linear_layers_equals_zennits(name):
    net, params, module = drawn()
    ours, other = RULES[name]
    composite = lf.attribution.composite((kinds.LINEAR, ours))
    base = zennit.composites.layer_map_base()
    composite_there = zennit.composites.LayerMapComposite([*base, (zennit.types.Linear, other)])
    found = lf.attribution.lrp(net, params, X, TARGET, rules=composite).x
    assert same_number(found, theirs(module, composite_there), error=STABILIZER)


def test_z_box_equals_zennits():
    net, params, module = drawn()
    composite = lf.attribution.composite(by_path={"0": rules.z_box(LOW, HIGH)})
    layer_map = [*zennit.composites.layer_map_base(), (zennit.types.Linear, zennit.rules.Epsilon())]
    box = zennit.rules.ZBox(LOW[None], HIGH[None])
    first = [(zennit.types.Convolution, box)]
    composite_there = zennit.composites.SpecialFirstLayerMapComposite(layer_map, first)
    found = lf.attribution.lrp(net, params, X, TARGET, rules=composite).x
    assert same_number(found, theirs(module, composite_there), error=STABILIZER)


COMPOSITES = {
    "epsilon_plus": (lf.attribution.epsilon_plus, zennit.composites.EpsilonPlus),
    "epsilon_plus_flat": (lf.attribution.epsilon_plus_flat, zennit.composites.EpsilonPlusFlat),
    "epsilon_alpha2_beta1": (lf.attribution.epsilon_alpha2_beta1,
        zennit.composites.EpsilonAlpha2Beta1),
    "epsilon_alpha2_beta1_flat": (lf.attribution.epsilon_alpha2_beta1_flat,
        zennit.composites.EpsilonAlpha2Beta1Flat),
    "epsilon_gamma_box": (partial(lf.attribution.epsilon_gamma_box, -4.0, 5.0),
        partial(zennit.composites.EpsilonGammaBox, -4.0, 5.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITES)
def test_each_composite_equals_zennits(name):
    net, params, module = drawn()
    ours, other = COMPOSITES[name]
    options = {"epsilon": 0.01, "stabilizer": 0.001}
    found = lf.attribution.lrp(net, params, X, TARGET, rules=ours(**options))
    assert same_number(found.x, theirs(module, other(**options)), error=STABILIZER)


def test_merged_batch_norm_equals_zennits_canonizer():
    net, params, module = drawn()
    merged = lf.attribution.merge_batch_norm(net, params)
    canonizers = [zennit.canonizers.SequentialMergeBatchNorm()]
    other = theirs(module, zennit.composites.EpsilonPlus(canonizers=canonizers))
    found = lf.attribution.lrp(net, merged, X, TARGET, rules=lf.attribution.epsilon_plus()).x
    # zennit's batch norm divides by sqrt(1 + eps) after the merge, and ours by 1.
    assert same_number(found, other, error=1.1e-5)
    assert not same_number(found, lf.attribution.lrp(net, params, X, TARGET).x)


def test_relevance_through_torchvisions_residual_blocks_equals_that_of_zennits_sums():
    resnet = pytest.importorskip("torchvision.models.resnet")
    canonizers = pytest.importorskip("zennit.torchvision")
    torch.manual_seed(0)
    down = nn.Sequential(nn.Conv2d(2, 4, 1, 2), nn.BatchNorm2d(4))
    module = nn.Sequential(
        resnet.BasicBlock(2, 2), resnet.BasicBlock(2, 4, 2, down),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6),
    )  # fmt: skip
    module = module.double()
    module(X)  # running statistics that are not the first ones
    module.eval()
    net, params = lf.interop.from_torch(module)
    found = lf.attribution.lrp(net, params, X, TARGET).x
    sums = [canonizers.ResNetBasicBlockCanonizer()]
    expected = theirs(module, zennit.composites.EpsilonPlus(canonizers=sums))
    assert same_number(found, expected, error=STABILIZER)
    # Without the canonizer, zennit gives the whole relevance of a sum to both terms.
    assert theirs(module, zennit.composites.EpsilonPlus()).sum() > 2 * found.sum() > 0
