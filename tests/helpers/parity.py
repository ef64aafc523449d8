"""A model of Hugging Face's library beside the network that is loaded from its files."""

import json
import tempfile
from pathlib import Path

import attrs
import torch

import lincoln_fn as lf

# 256 roundings in float32, as `same_number` allows.
ROUNDING = 256 * torch.finfo(torch.float32).eps


@attrs.frozen(eq=False)
class Row:
    """A model of random weights.

    Args:
        module: the model, of which the tests make no other use.
        x: the input of our network.
        call: (module, x) -> the tensor, or the tuple of tensors, that our network returns.
        positions: True where the outputs are compared; None: everywhere.
        note: tells rows of one model apart.
    """

    module: torch.nn.Module
    x: object
    call: object
    positions: object = None
    note: str = ""

    def __str__(self):
        return f"{type(self.module).__name__}{self.note and '-' + self.note}"


def perturbed(module):
    """Move every parameter away from its initial value, which hides mistakes where it is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(0.1 * noise)
    return module.eval()


def saved(module):
    """Return the folder that the library saves a model in, until the caller drops it."""
    folder = tempfile.TemporaryDirectory()
    module.save_pretrained(folder.name)
    return folder


def outputs(y):
    return y if isinstance(y, tuple) else (y,)


def off(given, expected, least=0.0):
    """Return the largest error, relative to the largest number."""
    return ((given - expected).abs().max() / expected.abs().max().clamp(min=least)).item()


def check_outputs(row):
    """Hold the outputs and every gradient leaf of the network against the library's."""
    with saved(row.module) as folder:
        net, params, _ = lf.interop.from_pretrained(folder)
        with torch.no_grad():
            assert_close(row, net.predict(params, row.x), row.call(row.module, row.x), ROUNDING)
        gradients, expected = both_gradients(row, net, params, folder)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        # A gradient that is 0, as that of a key's bias, is rounding errors in the library.
        least = 0.0 if gradients[name].any() else largest
        assert off(gradients[name], gradient, least) < ROUNDING, name


def assert_close(row, y, theirs, limit):
    for ours, expected in zip(outputs(y), outputs(theirs), strict=True):
        kept = slice(None) if row.positions is None else row.positions
        assert ours.shape == expected.shape
        assert off(ours[kept], expected[kept]) < limit


def both_gradients(row, net, params, folder):
    """Return the gradients of random weights on the outputs, by the library's names."""
    y, cache = net.forward(params, row.x)
    theirs = outputs(row.call(row.module, row.x))
    generator = torch.Generator().manual_seed(1)
    drawn = (torch.randn(entry.shape, generator=generator) for entry in theirs)
    weights = [w.to(entry.dtype) for w, entry in zip(drawn, theirs, strict=True)]
    if row.positions is not None:
        weights = [w * row.positions.unsqueeze(-1) for w in weights]
    row.module.zero_grad()
    sum((w * entry).sum() for w, entry in zip(weights, theirs, strict=True)).backward()
    expected = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in row.module.named_parameters()
    }
    _, dparams = net.backward(params, cache, tuple(weights) if isinstance(y, tuple) else weights[0])
    # Gradients mirror params, so the library reads them as the weights of a model.
    config = json.loads((Path(folder) / "config.json").read_text())
    with tempfile.TemporaryDirectory() as other:
        lf.interop.save_pretrained(net, dparams, config, other)
        named = dict(type(row.module).from_pretrained(other).named_parameters())
    assert named.keys() == expected.keys()
    return named, expected


def check_files(row):
    """Save what was loaded: both libraries read the same bits, and the files are the same."""
    with saved(row.module) as folder, tempfile.TemporaryDirectory() as other:
        lf.interop.save_pretrained(*lf.interop.from_pretrained(folder), other)
        theirs = type(row.module).from_pretrained(other).state_dict()
        own = row.module.state_dict()
        assert theirs.keys() == own.keys()
        assert all(torch.equal(theirs[name], tensor) for name, tensor in own.items())
        configs = [(Path(f) / "config.json").read_text() for f in (folder, other)]
        assert json.loads(configs[0]) == json.loads(configs[1])
