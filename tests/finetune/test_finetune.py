"""Fine-tuning: low-rank updates train alone, cost what they need, and merge."""

import pytest
import torch
from helpers import CE, Operations, assert_says, normal, same_bits, same_number
from helpers.programs import program_of

import lincoln_fn as lf
from benchmarks.memory import LiveBytes
from lincoln_fn.finetune.quantize import from_dense
from lincoln_fn.recording import flatten
from lincoln_fn.recording.program import generate

X = normal(6, 5)
TOKENS = torch.tensor([[1, 2, 0, 3], [4, 4, 1, 2]])
BLOCK = lf.transformer_encoder_block(2, 6, dropout=0.0, norm_first=True, is_causal=True)
GPT = lf.tied(lf.embedding(5, 4), lf.serial(BLOCK, BLOCK, lf.layer_norm()))
LLAMA = lf.serial(
    lf.embedding(5, 4), lf.residual(lf.grouped_query_attention(2, 1)), lf.residual(lf.swiglu(6))
)
MLP = lf.serial(lf.dense(7), lf.tanh(), lf.dense(7), lf.tanh(), lf.dense(3))
EVERY = ("*",)


def random_updates(params, seed=9):
    """Let the updates be something: B begins at 0."""
    seeds = iter(range(seed, 10**6))
    return lf.tree.map(lambda leaf: leaf + 0.3 * normal(*leaf.shape, seed=next(seeds)), params)


def adapted(net, x, transform=lf.lora, **options):
    params = net.init(lf.Key(0), x)
    return params, *transform(net, params, lf.Key(1), r=2, **options)


@pytest.mark.parametrize("transform", [lf.lora, lf.dora])
@pytest.mark.parametrize(("net", "x", "targets"), [
    (MLP, X, EVERY), (GPT, TOKENS, ("*.query", "*.value")),
    (GPT, TOKENS, ("*.linear*", "*.output")), (LLAMA, TOKENS, ("*.key", "*.gate", "*.up", "*.down"))
])  # fmt: skip
def test_it_begins_as_the_network_given_and_merges(net, x, targets, transform):
    params, tuned, new = adapted(net, x, transform, targets=targets)
    assert same_number(tuned.predict(new, x), net.predict(params, x))
    merged, back = lf.merge_lora(tuned, new)
    assert repr(merged) == repr(net)
    assert same_number(back, params)
    new = random_updates(new)
    merged, back = lf.merge_lora(tuned, new)
    y = tuned.predict(new, x)
    assert same_number(merged.predict(back, x), y)
    assert (net.predict(params, x) - y).abs().max() > 0.01


def test_the_update_is_alpha_over_r_times_a_b():
    params, tuned, new = adapted(MLP, X, targets=EVERY, alpha=3)
    new = random_updates(new)
    expected = params[0].weight + 3 / 2 * new[0].lora_a.weight @ new[0].lora_b.weight
    assert same_number(lf.merge_lora(tuned, new)[1][0].weight, expected)


def by_torch(params, x, scale=1):
    """Run the layers by torch: the last tanh, and the pairs of the updates."""
    pairs = [leaf.clone().requires_grad_() for leaf in lf.tree.leaves(params)]
    for i in range(0, len(pairs), 2):
        base = params[i].base.params
        update = scale * (x @ pairs[i] @ pairs[i + 1])
        x = torch.tanh(torch.addmm(base.bias, x, base.weight) + update)
    return x, pairs


def test_the_walk_back_has_as_many_products_as_torchs():
    _, tuned, params = adapted(MLP, X, targets=EVERY)
    y, cache = lf.walk.forward_to_train(tuned, params, X)
    with Operations() as ours:
        lf.walk.gradients(tuned, params, cache, y)
    h, _ = by_torch(params, X)
    with Operations() as theirs:
        h.backward(y)
    products = "mm", "addmm", "bmm", "mkldnn_linear", "_mkl_linear", "linear"
    counts = [sum(name in products for name in mode.names) for mode in (ours, theirs)]
    assert counts == [3 + 5 + 5] * 2  # the first layer's dx is not needed


def test_a_recorded_step_takes_no_more_memory_than_torchs():
    x, g = normal(256, 32), normal(256, 32)
    net = lf.serial(*[lf.dense(32), lf.tanh()] * 4)
    _, tuned, params = adapted(net, x, targets=EVERY)
    given, structure = flatten((x, g, params))

    def step(*leaves):
        x, g, params = structure.unflatten(leaves)
        _, cache = lf.walk.forward_to_train(tuned, params, x)
        return tuple(lf.tree.leaves(lf.walk.gradients(tuned, params, cache, g)))

    program = generate(program_of(step, *given))

    def theirs():
        h, pairs = by_torch(params, x, 8)
        h.backward(g)
        return [leaf.grad for leaf in pairs]

    peaks = []
    for run in (lambda: program(given), theirs):
        with LiveBytes([x, g, *lf.tree.leaves(params, states=True)]) as live:
            run()
        peaks.append(live.peak)
    assert peaks[0] <= 1.2 * peaks[1]


def test_only_the_updates_have_a_state_of_the_optimizer():
    _, tuned, params = adapted(GPT, TOKENS)
    net, optimizer = lf.serial(tuned, lf.permute(0, 2, 1)), lf.optim.adam(0.1)
    step = lf.make_step(net, CE, optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), TOKENS, params=(params, ()))
    trained = lf.tree.paths(state.params)
    assert len(trained) == 8
    assert all(".lora_" in path for path in trained)
    kept = [leaf.numel() for leaf in lf.tree.leaves(state.opt_state)]
    assert sum(kept) <= 2 * sum(leaf.numel() for leaf in lf.tree.leaves(state.params)) + 2
    moved, _ = step(state, (TOKENS, TOKENS))
    paths = lf.tree.paths(state.params, states=True)
    pairs = zip(*(lf.tree.leaves(s.params, states=True) for s in (state, moved)), strict=True)
    stays = {path: bool(same_bits(*pair)) for path, pair in zip(paths, pairs, strict=True)}
    # B begins at 0, so that A has no gradient at first.
    assert {path for path in paths if not stays[path]} == {p for p in trained if ".lora_b." in p}


TRANSFORMS = {
    "lora": lambda net, params: lf.lora(net, params, lf.Key(1), r=2, targets=EVERY, dropout=0.3),
    "dora": lambda net, params: lf.dora(net, params, lf.Key(1), r=2, targets=EVERY),
    "quantised": lf.quantize,
    "qlora": lambda net, params: lf.lora(*lf.quantize(net, params, bits=8), lf.Key(1), targets=EVERY
    ),
    "dora of 4 bits": lambda net, params: lf.dora(
        *lf.quantize(net, params), lf.Key(1), r=2, targets=EVERY),
}  # fmt: skip


@pytest.mark.parametrize(
    ("net", "x", "name"),
    [*((lf.serial(lf.prelu(), MLP), X, name) for name in TRANSFORMS),
     (BLOCK, normal(2, 3, 4), "lora"), (BLOCK, normal(2, 3, 4), "dora of 4 bits")],
)  # fmt: skip
def test_the_gradients_are_proven(net, x, name):
    tuned, params = TRANSFORMS[name](net, net.init(lf.Key(0), x))
    lf.testing.check_layer(tuned, random_updates(params), x)


@pytest.mark.parametrize(("bits", "largest_gap"), [(8, 1 / 127), (4, 0.304)])
def test_a_number_of_few_bits_is_the_nearest(bits, largest_gap):
    weight = normal(13, 9)
    params = from_dense(lf.layers.dense.Params(weight, None), bits=bits, block_size=16)
    given = params.weight
    scales = params.scales.expand(-1, 16).flatten()[: 13 * 9].view(13, 9)
    assert ((given - weight).abs() <= scales * largest_gap / 2 * 1.00001).all()
    assert ((given - weight).abs() > scales * largest_gap / 6).any()
    # The largest number of each block is exact.
    assert same_number(given.flatten()[:16].abs().max(), weight.flatten()[:16].abs().max())


@pytest.mark.parametrize(("bits", "share"), [(8, 0.265625), (4, 0.140625)])
def test_few_bits_take_little_memory_and_dx_is_that_of_their_matrix(bits, share):
    x = normal(3, 64)
    net = lf.dense(128, bias=False)
    before = net.init(lf.Key(0), x)
    few, params = lf.quantize(net, before, bits=bits)
    size = sum(leaf.nbytes for leaf in lf.tree.leaves(params, states=True))
    assert size == share * before.weight.nbytes
    dense = lf.layers.dense.Params(params.weight, params.bias)
    y, cache = few.forward(params, x)
    assert same_number(y, net.predict(dense, x))
    assert cache.untyped_storage().nbytes() == 4
    assert same_number(few.input_grad(params, cache, y), net.input_grad(dense, x, y))
    assert few.grads(params, cache, y) is params


def test_targets_that_fit_nothing_are_refused_with_the_paths_that_there_are():
    params = MLP.init(lf.Key(0), X)
    message = "lora: ... got '*.query'; there are '0', '2', '4'"
    assert_says(message, lf.lora, MLP, params, lf.Key(0))
    assert_says("quantize: ... got '1'", lf.quantize, MLP, params, targets=("1",))
    assert_says("an even block_size", lf.quantize, MLP, params, block_size=3)


def test_a_target_inside_a_frozen_part_is_trained():
    net = lf.serial(lf.frozen(lf.serial(lf.dense(4), lf.dense(4))), lf.dense(2))
    params = net.init(lf.Key(0), X)
    tuned, new = lf.lora(net, params, lf.Key(1), targets=("0.0.1",))
    assert lf.tree.paths(new) == ["0.1.lora_a.weight", "0.1.lora_b.weight"]
    assert same_number(tuned.predict(new, X), net.predict(params, X))


@pytest.mark.parametrize("transform", [lf.lora, lf.dora])
@pytest.mark.parametrize("wrap", [lf.shared, lambda part: lf.shared(lf.frozen(part))])
def test_a_part_that_shares_its_params_with_its_combinator_merges(wrap, transform):
    net = lf.serial(lf.shared(lf.dense(3)), lf.add(), lf.dense(2))
    wrapped = net.rebuild((wrap(lf.dense(3)), *net.parts[1:]))
    x = normal(4, 5), normal(4, 5, seed=1)
    for targets in (("*",), ("2",)):
        params, tuned, new = adapted(wrapped, x, transform, targets=targets)
        new = random_updates(new)
        merged, back = lf.merge_lora(tuned, new)
        assert repr(merged) == repr(net)
        assert same_number(merged.predict(back, x), tuned.predict(new, x))
        assert not same_number(wrapped.predict(params, x), tuned.predict(new, x))


def test_a_column_of_zeros_has_no_direction():
    net = lf.serial(lf.dense(3, weight_init=lf.initializers.zeros()))
    message = "dora: dense(3 ... direction, got 3 of zeros; use lora"
    assert_says(message, adapted, net, X, lf.dora, targets=EVERY)
