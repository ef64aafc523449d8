"""What holds of every composition: it nests, each walk agrees with `backward`, and it compiles."""

import torch

import lincoln_fn as lf
from benchmarks.memory import LiveBytes
from helpers import cast, largest, random_like, same_bits, same_number

PAIR = lf.branch(lf.tanh(), lf.sigmoid(), merge=lf.identity())
# Compositions that a layer from (batch, features) to the same shape can stand in.
CONTEXTS = {
    "serial": lambda layer: lf.serial(lf.tanh(), layer, lf.sigmoid()),
    "residual": lf.residual,
    "checkpointed": lf.checkpointed,
    "shared": lambda layer: lf.serial(PAIR, lf.shared(layer), lf.add()),
}


def run(layer, x, dtype=torch.float32, key=11):
    """Run forward, and draw a cotangent: (params, y, cache, g)."""
    params = cast(layer.init(lf.Key(key), x), dtype)
    y, cache = layer.forward(params, cast(x, dtype))
    return params, y, cache, random_like(y)


def check_split(layer, params, cache, g):
    """Check that dx now and dparams later have the bits of `backward`, and give those."""
    dx, dparams = layer.backward(params, cache, g)
    assert same_bits(layer.input_grad(params, cache, g), dx)
    assert same_bits(layer.grads(params, cache, g), dparams)
    assert same_bits(lf.walk.gradients(layer, params, cache, g), dparams)
    given, sites = lf.cotangents(layer, params, cache, g)
    assert same_bits((given, lf.grads_at(layer, params, sites)), (dx, dparams))
    _, sites = lf.cotangents(layer, params, cache, g, dx=False)
    assert same_bits(lf.grads_at(layer, params, sites), dparams)
    return dx, dparams


def check_step(layer, x, key=11):
    """Check that the walks of a step have the bits of the protocol's functions; as `run` gives."""
    params, y, cache, g = run(layer, x, key=key)
    given, kept = lf.walk.forward_to_train(layer, params, x)
    assert same_bits((given, layer.advance(params, kept)), (y, layer.advance(params, cache)))
    assert same_bits(lf.walk.gradients(layer, params, kept, g), layer.grads(params, cache, g))
    return params, y, cache, g


def check_walks(layer, x):
    """Check that every walk of the library gives the bits of `backward`, and reaches the parts."""
    params, y, cache, g = check_step(layer, x)
    dx, dparams = check_split(layer, params, cache, g)

    given, cache = lf.walk.there(lambda part, path, p, x: part.forward(p, x), layer, params, x)
    assert same_bits(given, y)
    dx_of_walk, _ = lf.walk.back(
        lambda part, path, p, c, g: (part.input_grad(p, c, g), path), layer, params, cache, g
    )
    assert same_bits(dx_of_walk, dx)
    _check_rebuilt(layer, params, x, y)
    fast = lf.fast(layer)
    y_of_fast, cache = fast.forward(params, x)
    given = y_of_fast, fast.backward(params, cache, g)
    # A bias before a norm acts on nothing: its gradient cancels.
    assert same_number(given, (y, (dx, dparams)), terms=largest((y, g, dx)))


def _check_rebuilt(layer, params, x, y):
    seen = set()

    def watched(single):
        def forward(p, x):
            seen.add(single.name)
            return single.forward(p, x)

        return single.replace(forward=forward)

    again = lf.map_layers(watched, layer)
    assert again.name == layer.name
    assert same_bits(again.forward(params, x)[0], y)
    used = {record.name for record in lf.summary(layer, x).layers}
    assert seen == used - set(_names_of_compositions(layer))


def _names_of_compositions(layer):
    if layer.parts:
        yield layer.name
        for part in layer.parts:
            yield from _names_of_compositions(part)


def check_trace(layer, x):
    """Check that `inspect.trace` sees the output and the gradient of every layer."""
    params, y, _, _ = run(layer, x)
    loss = lf.losses.mse()
    for record in lf.inspect.trace(layer, params, x, loss, torch.zeros_like(y)):
        assert record.output_norm is not None, record
        assert record.gradient_norm is not None, record


def check_compiled(layer, x):
    """Check that a compiled step gives the state of the step itself."""
    optimizer, loss = lf.optim.sgd(0.1, momentum=0.9), lf.losses.mse()
    step = lf.make_step(layer, loss, optimizer)
    state = lf.init_state(layer, optimizer, lf.Key(5), x)
    target = random_like(layer.predict(state.params, x))
    expected, value = step(state, (x, target))
    given, same = lf.compile(step)(state, (x, target))
    assert same_number(same, value)
    # A bias before a norm has no effect: its gradient is a sum that cancels.
    assert same_number(given, expected, terms=largest(expected))


def peak_bytes(function, *arguments):
    """Measure the bytes of the tensors alive at once in a function, beyond its arguments."""
    held = [
        leaf for leaf in lf.tree.leaves(arguments, states=True) if isinstance(leaf, torch.Tensor)
    ]
    with LiveBytes(held) as live:
        before = live.peak
        function(*arguments)
    return live.peak - before


def forward_and_backward(net, params, x, g):
    """Compute dparams as a training step does, which owns its caches."""
    return lf.walk.gradients(net, params, net.forward(params, x)[1], g)
