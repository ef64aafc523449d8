"""Layers, losses, optimizers, rules and steps on a simulated device: no operation mixes devices.

What keeps the device waiting is held against the list of the page on devices.
"""

import re
from pathlib import Path

import pytest
import torch
from helpers import FIRST, losses, normal, optimizers, rules, same_bits, same_number, stateful
from helpers.accelerator import DEVICE, Accelerator, here

import lincoln_fn as lf
from lincoln_fn import optim

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "devices.md"
SECTION = PAGE.read_text().partition("## What a step waits for")[2].partition("\n## ")[0]
# By row of the page's table, the constructors that it names.
LISTED = {
    row.split("|")[1].strip(): set(re.findall(r"`(\w+)`", row.split("|")[2]))
    for row in SECTION.splitlines()
    if row.startswith("|")
}
# A part before a layer, which then gets an x on `meta` for its init.
BEFORE = lf.Layer("before()", lambda params, x: (x, None), lambda params, cache, g: (g, ()))
# A bias before batch_norm would have a gradient of rounding errors alone, which adam divides by
# their own size.
NET = lf.serial(lf.dense(4, bias=False), lf.batch_norm(), lf.relu(), lf.dropout(0.3), lf.dense(3))
X, LABELS = normal(8, 5), torch.arange(8) % 3
KEY = lf.Key(11)  # on the CPU
READ, MOVED = "aten._local_scalar_dense", "aten._to_copy"
LOSS = lf.losses.softmax_cross_entropy()


def devices(arrays):
    """The devices of all tensors of a tree."""
    leaves = lf.tree.leaves(arrays, states=True)
    return {leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)}


# In the short suite layers/test_layers_edges.py has every layer on a device, without numbers.
@pytest.mark.full(
    but=(
        "[dense(4)-", "[fixed_point(", "[batch_norm()-", "[dropout()-", "[conv2d(", "[max_pool2d(",
        "[embedding(", "[lstm(4)-", "[multi_head_attention(", "[vector_quantize(", "[ode(",
    )
)  # fmt: skip
@pytest.mark.parametrize("case", FIRST, ids=str)
def test_a_layer(case):
    net, expected = lf.serial(BEFORE, case.layer), case.params()
    with Accelerator() as gpu:
        x = gpu.move(case.x)
        alone = case.layer.init(gpu.move(KEY), x)
        assert not gpu.synchronised
        params = net.init(KEY, x)  # where the key is moved, and nothing else is
        assert len(gpu.synchronised) <= 1
        assert devices((alone, params)) <= {DEVICE}

        gpu.synchronised.clear()
        y, cache = case.layer.forward(alone, x)
        dx, dparams = case.layer.backward(alone, cache, lf.tree.map(torch.ones_like, y))
        assert devices((y, dx, dparams)) == {DEVICE}
    assert same_number(here(alone), expected)
    assert not gpu.made_on_cpu
    assert bool(gpu.synchronised) == (str(case.layer).partition("(")[0] in LISTED["layers"])
    assert same_number(here(y), case.layer.forward(expected, case.x)[0])


def waits_of(row):
    """Compute a loss and its gradient on the device, and give what waits for it."""
    loss = row.loss("mean")
    expected, cache = loss.forward(row.prediction, row.target)
    of_prediction = loss.backward(cache, torch.ones_like(expected))
    with Accelerator() as gpu:
        value, cache = loss.forward(*gpu.move((row.prediction, row.target)))
        gradients = loss.backward(cache, torch.ones_like(value))
        assert devices((value, gradients)) == {DEVICE}, row
    assert not gpu.made_on_cpu, row
    assert same_number(here((value, gradients)), (expected, of_prediction)), row
    return set(gpu.synchronised)


@pytest.mark.full
def test_losses_wait_as_the_page_says():
    waits = [(row.name, waits_of(row)) for row in losses.TABLE]
    assert all(found <= {READ, MOVED} for _, found in waits), waits
    assert {name for name, found in waits if READ in found} == LISTED["losses"]
    assert {name for name, found in waits if MOVED in found} == LISTED["weights"]


@pytest.mark.whole
@pytest.mark.parametrize("optimizer", [*optimizers.RICH, optim.muon()], ids=str)
def test_an_optimizer(optimizer):
    of_matrices = str(optimizer).startswith(("soap", "muon"))
    before = (optimizers.matrices if of_matrices else optimizers.parameters)(torch.float32)
    expected, _ = optimizers.steps_of(optimizer, before, 3)
    with Accelerator() as gpu:
        after, state = optimizers.steps_of(optimizer, gpu.move(before), 3)
        assert devices((after, state)) == {DEVICE}
    assert not gpu.made_on_cpu
    assert same_number(here(after), expected, length=2**14)
    listed = [name for name in LISTED["optimizers"] if name in str(optimizer)]
    assert bool(gpu.synchronised) == bool(listed), gpu.synchronised


def trained(gpu, net, loss, optimizer, x, target, *, key, **options):
    """Take two steps on the device, and give the state and the values."""
    gradient = options.get("gradient")
    state = lf.init_state(net, optimizer, key, x, gradient=gradient)
    assert devices(state) == {DEVICE}
    step = lf.make_step(net, loss, optimizer, **options)
    values = []
    for _ in range(2):
        gpu.synchronised.clear()
        state, value = step(state, (x, target))
        values.append(value)
    assert devices((state, values)) == {DEVICE}
    assert not gpu.made_on_cpu
    return state, values


OPTIMIZERS = {
    "sgd": optim.sgd(0.1),
    "adam": optim.adam(),
    "chain": optim.chain(
        optim.clip_by_global_norm(1.0), optim.accumulate(2), optim.ema(0.9), optim.adamw()
    ),
    "schedule": optim.sgd(lf.schedules.cosine(0.1, 10), momentum=0.9),
}
CLIPPED = lf.per_example.clipped(1.0, noise=0.5, batch_size=8)
PLAIN = lf.map_layers(lambda part: lf.identity() if "norm" in part.name else part, NET)
STEPS = {
    **{name: (NET, LOSS, LABELS, each, {}) for name, each in OPTIMIZERS.items()},
    "donate": (NET, LOSS, LABELS, optim.adam(), {"donate": True}),
    "formulas": (NET, LOSS, LABELS, optim.adam(), {"fast": False}),
    "clipped": (PLAIN, LOSS, LABELS, optim.sgd(0.1), {"gradient": CLIPPED}),
    "all frozen": (lf.frozen(NET), LOSS, LABELS, optim.adam(), {}),
}


@pytest.mark.parametrize("on_device", [False, True], ids=["key on the CPU", "key on the device"])
@pytest.mark.parametrize("kind", STEPS)
def test_a_step(kind, on_device):
    net, loss, target, optimizer, options = STEPS[kind]
    with Accelerator() as gpu:
        key = gpu.move(KEY) if on_device else KEY
        x, y = gpu.move((X, target))
        state, values = trained(gpu, net, loss, optimizer, x, y, key=key, **options)
    assert set(gpu.synchronised) == {READ}
    beginning = lf.init_state(net, optimizer, KEY, X, gradient=options.get("gradient"))
    step = lf.make_step(net, loss, optimizer, **options)
    middle, first = step(beginning, (X, target))
    end, second = step(middle, (X, target))
    assert same_number(here(values), [first, second])
    assert same_number(here(state.params), end.params)


@pytest.mark.parametrize("name", rules.RULES)
def test_a_rule(name):
    net, loss, target = rules.RULES[name]
    with Accelerator() as gpu:
        x, y = gpu.move((rules.X, target))
        _, values = trained(gpu, net, loss, optim.sgd(0.1), x, y, key=KEY)
    assert set(gpu.synchronised) == {READ}
    state = lf.init_state(net, optim.sgd(0.1), KEY, rules.X)
    _, first = lf.make_step(net, loss, optim.sgd(0.1))(state, (rules.X, target))
    assert same_number(here(values[0]), first)


@pytest.mark.parametrize("name", stateful.STATEFUL)
def test_a_network_with_a_state(name):
    net, inputs = stateful.STATEFUL[name]
    with Accelerator() as gpu:
        x = gpu.move(inputs)
        params = net.init(KEY, x)
        y, cache = net.forward(params, x)
        ones = lf.tree.map(torch.ones_like, y)
        assert devices((params, net.advance(params, cache), y)) == {DEVICE}
        assert devices((net.backward(params, cache, ones), net.predict(params, x))) == {DEVICE}
        assert len(gpu.synchronised) == 1  # the key is moved
    assert not gpu.made_on_cpu
    assert same_number(here(y), net.forward(net.init(KEY, inputs), inputs)[0])


def test_streams_and_checkpoints(tmp_path):
    optimizer = optim.adam()

    def run(x, target, folder):
        state, batches = lf.init_state(NET, optimizer, KEY, x), lf.data.batches((x, target), 4)
        shuffled = lf.data.batches((x, target), 4, key=lf.Key(1), epochs=2)
        steps = lf.train(lf.make_step(NET, LOSS, optimizer), state, shuffled)
        scores = {"accuracy": lf.metrics.accuracy}
        steps = lf.streams.evaluated(steps, NET, batches, scores, every=2)
        steps = lf.streams.early_stopping(steps, "accuracy", patience=9)
        steps = lf.streams.logged(steps, folder / "log.csv")
        steps = lf.checkpoint.every(steps, lf.checkpoint.Directory(folder / "all"), steps=2)
        *_, (state, _) = lf.streams.finite(steps, NET)
        lf.checkpoint.save(folder / "last.ckpt", state)
        return state, lf.checkpoint.load(folder / "last.ckpt", state)

    for name in ("cpu", "device"):
        (tmp_path / name).mkdir()
    expected, _ = run(X, LABELS, tmp_path / "cpu")
    with Accelerator() as gpu:
        state, loaded = run(*gpu.move((X, LABELS)), tmp_path / "device")
    assert devices((state, loaded)) == {DEVICE}
    assert same_bits(here(loaded), here(state))
    assert same_number(here(state.params), expected.params)
    # One that was saved on the device is loaded where the state to fill is.
    assert same_bits(lf.checkpoint.load(tmp_path / "device/last.ckpt", expected), here(state))


def test_batches_are_where_their_arrays_are():
    with Accelerator() as gpu:
        moved = gpu.move((X, LABELS))
        for arrays, key in ((moved, KEY), (moved, gpu.move(KEY)), ((X, LABELS), gpu.move(KEY))):
            batches = lf.data.batches(arrays, 3, key=key, epochs=2)
            assert devices(list(batches)) == devices(arrays)
            assert same_bits(
                here(list(batches)), list(lf.data.batches((X, LABELS), 3, key=KEY, epochs=2))
            )


def test_true_and_false_labels_are_where_x_is():
    expected = lf.rules.true_and_false_labels(KEY, X, LABELS, 3)
    with Accelerator() as gpu:
        x, labels = gpu.move((X, LABELS))
        found = lf.rules.true_and_false_labels(KEY, x, labels, 3)
        assert devices(found) == {DEVICE}
        assert same_bits(here(found), expected)
        with pytest.raises(lf.LayerError, match=f"expected labels on {DEVICE}, got cpu"):
            lf.rules.true_and_false_labels(KEY, x, LABELS, 3)


def test_a_summary_is_that_of_the_cpu():
    expected = repr(lf.summary(NET, X))
    with Accelerator() as gpu:
        assert repr(lf.summary(NET, gpu.move(X))) == expected


def test_the_device_raises_where_devices_mix_and_lists_what_waits():
    with Accelerator() as gpu:
        x = gpu.move(X)
        for mixes in (
            lambda: x + X,
            lambda: x @ X.mT,
            lambda: torch.cat((x, X)),
            lambda: X.add_(x),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixes()
        number = torch.tensor(2.0)
        assert gpu.made_on_cpu == ["aten.lift_fresh.default"]
        assert not gpu.synchronised
        assert (x * number).device == x[LABELS].device == DEVICE
        assert same_bits(x.sum().item(), X.sum().item())
        assert gpu.synchronised == [READ]
        assert same_bits(x.cpu(), X)
        assert gpu.synchronised == [READ, MOVED]
