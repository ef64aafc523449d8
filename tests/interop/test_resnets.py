"""torchvision's ResNets by from_torch: outputs, dx and statistics, in both modes."""

import pytest
import torch
from helpers import assert_says, normal, same_number
from torch import nn

import lincoln_fn as lf

pytestmark = pytest.mark.full

resnet = pytest.importorskip("torchvision.models.resnet")


def randomised(module, seed=0):
    """Give a module random weights, and statistics that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            with torch.no_grad():
                if name.endswith("running_var") or (tensor.ndim == 1 and "weight" in name):
                    tensor.copy_(1 + drawn.abs() / 4)
                elif tensor.ndim > 1:
                    tensor.copy_(drawn / tensor[0].numel() ** 0.5)
                else:
                    tensor.copy_(drawn / 4)
    return module.double()


def small(block, **options):
    """Make a whole ResNet, small enough for a test: a stem, four stages, a pool and a head."""
    torch.manual_seed(0)
    return randomised(resnet.ResNet(block, [2, 1, 1, 1], num_classes=5, **options))


def activated(activation):
    module = randomised(resnet.BasicBlock(4, 4))
    module.relu = activation
    return module


BLOCKS = {
    "BasicBlock": lambda: (randomised(resnet.BasicBlock(4, 4)), (3, 4, 6, 5)),
    "BasicBlock with a stride": lambda: (randomised(resnet.BasicBlock(
                4, 6, stride=2, downsample=nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6)))
        ), (3, 4, 6, 5)),
    "Bottleneck": lambda: (randomised(resnet.Bottleneck(8, 2)), (3, 8, 6, 5)),
    "BasicBlock with another activation": lambda: (activated(nn.SiLU()), (3, 4, 6, 5)),
    "Bottleneck of groups": lambda: (
        randomised(resnet.Bottleneck(8, 2, groups=2, base_width=64, dilation=2)), (3, 8, 6, 5)),
    "resnet of basic blocks": lambda: (small(resnet.BasicBlock), (2, 3, 40, 36)),
    "resnet of bottlenecks": lambda: (
        small(resnet.Bottleneck, groups=2, width_per_group=8), (2, 3, 40, 36)),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", BLOCKS)
def test_outputs_dx_and_statistics_are_torchs_in_both_modes(name, mode):
    module, shape = BLOCKS[name]()
    plain, params = lf.interop.from_torch(module)
    layer = lf.inference(plain) if mode == "eval" else plain
    module.train(mode == "train")
    x = normal(*shape).double()
    leaf = x.clone().requires_grad_()
    expected = module(leaf)
    g = normal(*expected.shape, seed=1).double()
    (theirs,) = torch.autograd.grad(expected, leaf, g)
    y, cache = layer.forward(params, x)
    assert same_number((y, layer.input_grad(params, cache, g)), (expected.detach(), theirs))
    if mode == "eval":
        assert same_number(layer.predict(params, x), expected.detach())
    moved = lf.interop.to_state_dict(plain, layer.advance(params, cache), module)
    assert same_number(moved, dict(module.state_dict()))
    module.load_state_dict(moved)


def test_an_activation_with_parameters_is_refused_for_it_would_become_two():
    message = "1 BasicBlock: expected relu without parameters, ... ; make one layer of it by"
    module = nn.Sequential(nn.ReLU(), activated(nn.PReLU()))
    assert_says(message, lf.interop.from_torch, module)


def test_the_params_of_another_network_do_not_fit_a_module():
    dense, module = lf.dense(2), small(resnet.BasicBlock)
    with pytest.raises(lf.LayerError, match=r"missing there: bias, weight; missing here: 0"):
        lf.interop.to_state_dict(dense, dense.init(lf.Key(0), normal(1, 3)), module)


def test_a_module_within_that_has_no_counterpart_is_named_by_its_path():
    module = resnet.resnet18(weights=None)
    module.layer1[0].conv2 = nn.LazyConv2d(64, 3)
    assert_says("from_torch: layer1.0.conv2 LazyConv2d", lf.interop.from_torch, module)


def test_a_subclass_with_a_forward_of_its_own_is_refused():
    class Other(resnet.BasicBlock):
        def forward(self, x):
            return super().forward(x) * 2

    assert_says("Other: has no counterpart here", lf.interop.from_torch, Other(4, 4))
