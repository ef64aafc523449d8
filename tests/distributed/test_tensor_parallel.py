"""Layers divided among processes: together they compute what one process computes."""

from functools import partial

import attrs
import pytest
import torch
from helpers import CE, begin, same_bits, same_number
from helpers.processes import errors_of, run_in_processes
from helpers.refusals import assert_told

import lincoln_fn as lf
from lincoln_fn import distributed
from lincoln_fn.distributed.tensor_parallel.collectives import join_parts, sum_over, take_own_part

DOUBLE = torch.float64


@attrs.frozen
class Case:
    """A plain layer and how it is divided; x and y are divided along axes, unless they are None."""

    plain: lf.Layer
    parallel: object
    x: object
    x_axis: int | None = None
    y_axis: int | None = None


def normal(seed, *sizes):
    return lf.keys.normal(lf.Key(seed), sizes, dtype=DOUBLE)


def indices():
    return lf.keys.bits(lf.Key(3), (3, 5)).remainder(24)


def padding(*lengths):
    return torch.arange(5) < torch.tensor(lengths)[:, None]


def attention(x, num_heads=4, **options):
    return Case(
        lf.multi_head_attention(num_heads, **options),
        lambda group: distributed.parallel_attention(num_heads, group, **options),
        x,
    )


def block(x, **options):
    return Case(
        lf.transformer_encoder_block(4, dim_feedforward=20, **options),
        lambda group: distributed.parallel_encoder_block(4, group, dim_feedforward=20, **options),
        x,
    )


def dense(parallel, **axes):
    return Case(lf.dense(16), lambda group: parallel(16, group), normal(1, 3, 5, 12), **axes)


def embedding(**options):
    options["dtype"] = DOUBLE
    return Case(
        lf.embedding(24, 7, **options),
        lambda group: distributed.vocab_parallel_embedding(24, 7, group, **options),
        indices(),
    )


SEQUENCE = normal(1, 3, 5, 8)
QUERY, KEY, VALUE = normal(3, 3, 5, 16), normal(4, 3, 7, 6), normal(5, 3, 7, 9)
CASES = {
    "column": dense(distributed.column_parallel, y_axis=-1),
    "column gathered": dense(partial(distributed.column_parallel, gather_output=True)),
    "row": dense(distributed.row_parallel, x_axis=-1),
    "row of whole x": dense(partial(distributed.row_parallel, input_is_parallel=False)),
    "dropout": Case(
        lf.dropout(0.3), lambda group: distributed.parallel_dropout(0.3, group), normal(1, 3, 12),
        -1, -1,
    ),
    "dropout of another axis": Case(
        lf.dropout(0.3), lambda group: distributed.parallel_dropout(0.3, group, axis=1),
        normal(1, 3, 4, 7), 1, 1,
    ),
    "embedding": embedding(),
    "embedding with padding": embedding(padding_idx=-7),
    "attention": attention(SEQUENCE),
    "attention with dropout": attention(SEQUENCE, dropout=0.2),
    "attention, length first": attention(SEQUENCE, batch_first=False, num_heads=8),
    "attention, padded": attention((SEQUENCE, padding(5, 2, 4))),
    "attention, floating padding": attention((SEQUENCE, normal(6, 3, 5))),
    "attention, mask of each head": attention((SEQUENCE, normal(6, 4, 5, 5).expand(3, 4, 5, 5))),
    "attention, mask of all heads": attention((SEQUENCE, normal(6, 3, 1, 5, 5)), num_heads=8),
    "attention to others": attention((QUERY, KEY, VALUE), num_heads=8),
    "attention to others, mask": attention((QUERY, KEY, VALUE, normal(6, 1, 4, 5, 7))),
    "block": block(SEQUENCE),
    "block, norm first": block(
        (SEQUENCE, padding(5, 2, 4)), norm_first=True, dropout=0.3, activation="gelu"
    ),
    "block without dropout": block(SEQUENCE, dropout=0.0, bias=False, is_causal=True),
    "tied": Case(
        lf.tied(lf.embedding(24, 7, dtype=DOUBLE), lf.dense(7)),
        lambda group: distributed.parallel_tied(
            distributed.vocab_parallel_embedding(24, 7, group, dtype=DOUBLE), lf.dense(7), group
        ),
        indices(),
    ),
}  # fmt: skip


def passes(layer, params, x, g):
    """Compute all that a layer's functions return, without the caches."""
    y, cache = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
    halves = layer.input_grad(params, cache, g), layer.grads(params, cache, g)
    return {
        "y": y, "dx": dx, "dparams": dparams, "half dx": halves[0], "half dparams": halves[1],
        "predicted": layer.predict(params, x), "advanced": layer.advance(params, cache),
        "fast": fast(layer, params, x, g),
    }  # fmt: skip


def fast(layer, params, x, g):
    layer = lf.fast(layer)
    y, cache = layer.forward(params, x)
    return y, *layer.backward(params, cache, g)


def drawn(case):
    """Draw a case's params in one process, and dL/dy."""
    params = case.plain.init(lf.Key(0), case.x)
    y = case.plain.predict(params, case.x)
    return params, lf.keys.normal(lf.Key(9), tuple(y.shape), dtype=DOUBLE)


def whole(case):
    """Compute a case in one process."""
    params, g = drawn(case)
    return {"params": params, **passes(case.plain, params, case.x, g)}


def parts(case, group):
    """Compute a case in several processes, and put the results together."""
    plain, g = drawn(case)
    x = case.x
    if case.x_axis is not None:
        x = take_own_part(x, group, case.x_axis)
    if case.y_axis is not None:
        g = take_own_part(g, group, case.y_axis)
    layer = case.parallel(group)
    params = layer.init(lf.Key(0), x)
    taken = distributed.split(plain, params, group)
    results = {"params": params, "taken": taken, **passes(layer, taken, x, g)}
    axes = {
        "y": case.y_axis, "predicted": case.y_axis, "dx": case.x_axis, "half dx": case.x_axis
    }  # fmt: skip

    def joined(name, result):
        if name == "fast":
            y, dx, dparams = result
            return joined("y", y), joined("dx", dx), joined("params", dparams)
        if name in axes:
            axis = axes[name]
            return result if axis is None else join_parts(result, group, axis)
        return distributed.join(result, plain, group)

    return {name: leaves(joined(name, result)) for name, result in results.items()}


def leaves(tree):
    return [leaf.numpy() for leaf in lf.tree.leaves(tree, states=True)]


def all_cases(group):
    """Compute all cases in groups of 2 and of 4 processes."""
    pairs, across = distributed.grid(group, 2)
    results = {
        each.size: ({name: parts(case, each) for name, case in CASES.items()}, refused(each))
        for each in (pairs, group)
    }
    return results, trained(tensor=pairs, data=across)


@pytest.fixture(scope="module")
def of_processes():
    return run_in_processes(4, all_cases)


@pytest.fixture(params=[2, 4])
def of_ranks(request, of_processes):
    return [results[request.param] for results, _ in of_processes]


@pytest.mark.full
def test_the_parts_together_are_what_one_process_computes(of_ranks):
    for name, case in CASES.items():
        expected = {key: leaves(value) for key, value in whole(case).items()}
        expected["taken"] = expected["params"]
        for results, _ in of_ranks:
            assert results[name].keys() == expected.keys()
            for key, arrays in results[name].items():
                same = same_bits if key in ("params", "taken", "advanced") else same_number
                assert same(arrays, expected[key]), f"{name}: {key}"


@pytest.mark.full
def test_what_all_processes_have_is_the_same_in_all_bit_for_bit(of_ranks):
    first, *others = (results for results, _ in of_ranks)
    for other in others:
        for name, results in first.items():
            for key, arrays in results.items():
                assert same_bits(other[name][key], arrays), f"{name}: {key}"


def refused(group):
    """Make the layers that these processes cannot divide, and return the errors."""
    table = distributed.vocab_parallel_embedding(24, 7, group)
    params = table.init(lf.Key(0), indices())
    tries = {
        "columns": lambda: distributed.column_parallel(9, group),
        "rows": lambda: distributed.row_parallel(16, group, input_is_parallel=False).init(
            lf.Key(0), torch.ones(3, 9)
        ),
        "heads": lambda: distributed.parallel_attention(3, group),
        "block": lambda: distributed.parallel_encoder_block(4, group, dim_feedforward=9),
        "vocabulary": lambda: distributed.vocab_parallel_embedding(9, 7, group),
        "index": lambda: table.predict(params, torch.tensor([24])),
        "negative": lambda: table.predict(params, torch.tensor([-1, 2])),
        "shapes": lambda: distributed.split(torch.ones(4, 3), torch.ones(3, 3), group),
        "structure": lambda: distributed.join((torch.ones(4),), torch.ones(4), group),
    }
    return errors_of(tries)


@pytest.mark.full
def test_what_cannot_be_divided_is_refused_by_the_same_error_in_all(of_ranks, request):
    size = request.node.callspec.params["of_ranks"]
    first, *others = (errors for _, errors in of_ranks)
    assert all(other == first for other in others)
    multiple, following = f"to be a multiple of the {size} processes, got", {2: 10, 4: 12}[size]
    told = {
        "columns": f"^column_parallel: expected n_out {multiple} 9; "
        f"take a multiple, such as {following}$",
        "rows": f"x's features {multiple} 9",
        "heads": f"parallel_attention: expected num_heads {multiple} 3",
        "block": f"expected n_out {multiple} 9",
        "vocabulary": f"expected num_embeddings {multiple} 9",
        "index": "expected indices from 0 to 23, got 24$",
        "negative": "expected indices from 0 to 23, got -1$",
        "shapes": f"^split: expected a part of (4, 3) along one axis in {size} processes, "
        "got (3, 3)$",
        "structure": "^join: expected a tree like float32[4], got (float32[4],)$",
    }
    assert_told(first, told)


def language_model(tied, embed, make_block):
    """Read 5 characters of 24, and predict each next one."""
    body = lf.serial(lf.positional_embedding(5), make_block(4, 12, dropout=0.1), lf.layer_norm())
    return lf.serial(tied(embed(24, 8, dtype=DOUBLE), body), lf.permute(0, 2, 1))


def batches(shard=(0, 1)):
    arrays = tuple(lf.keys.bits(lf.Key(seed), (40, 5)).remainder(24) for seed in (3, 4))
    return arrays[0], lf.data.batches(arrays, 13, key=lf.Key(1), epochs=2, shard=shard)


def taught(state, step, shard=(0, 1)):
    values = []
    for batch in batches(shard)[1]:
        state, value = step(state, batch)
        values.append(value.item())
    return values, state


def clipped(clip):
    return lf.optim.chain(clip, lf.optim.adamw(0.01))


def one_process():
    net = language_model(lf.tied, lf.embedding, lf.transformer_encoder_block)
    return begin(net, batches()[0], CE, clipped(lf.optim.clip_by_global_norm(0.1)))


def trained(tensor, data):
    """Train on a grid: the examples are divided along one axis, the layers along the other."""
    net = language_model(
        lambda embed, body: distributed.parallel_tied(embed, body, tensor),
        lambda *sizes, **options: distributed.vocab_parallel_embedding(*sizes, tensor, **options),
        lambda heads, *rest, **options: distributed.parallel_encoder_block(
            heads, tensor, *rest, **options
        ),
    )
    _, like = one_process()
    clip = clipped(distributed.clip_by_global_norm(0.1, tensor, like=like.params))
    step, state = begin(net, batches()[0], CE, clip, reduce=distributed.mean(data))
    values, state = taught(state, step, (data.rank, data.size))
    return values, leaves(distributed.join(state, like, tensor))


@pytest.mark.full
def test_a_grid_of_data_and_tensor_parallel_processes_trains_as_one_process(of_processes):
    step, first = one_process()
    values, state = taught(first, step)
    first = of_processes[0][1][1]
    for _, (its_values, arrays) in of_processes:
        assert same_number(its_values, values)
        assert same_number(arrays, leaves(state))
        assert same_bits(arrays, first)
    assert values[-1] < values[0]


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_of_one_process_are_right(name):
    case = CASES[name]
    layer = case.parallel(distributed.alone())
    params = layer.init(lf.Key(0), case.x)
    if name != "embedding with padding":  # where the zero of a row is chosen, not derived
        lf.testing.check_layer(layer, params, case.x)
    expected = whole(case)
    for key, value in passes(layer, params, case.x, drawn(case)[1]).items():
        assert same_number(value, expected[key])


def test_half_precision_is_added_up_in_float32():
    """Two ones are lost beside 256 in bfloat16, if they are added one at a time."""
    x = torch.tensor([[256.0], [1.0], [1.0]], dtype=torch.bfloat16)

    @attrs.frozen
    class Three(distributed.Group):
        def gather(self, given):
            return given

    group = Three(0, (0, 1, 2))
    assert sum_over(x, group).item() == 258


@pytest.mark.full
def test_names_are_the_same_in_all_processes():
    for rank in (0, 1):
        group = distributed.Group(rank, (0, 1))
        columns = distributed.column_parallel(4, group, bias=False)
        assert str(columns) == "column_parallel(4, group, bias=False)"
        assert str(CASES["tied"].parallel(group)) == (
            "parallel_tied(vocab_parallel_embedding(24, 7, group, dtype=torch.float64), "
            "dense(7), group)"
        )
        assert str(CASES["block"].parallel(group)) == (
            "parallel_encoder_block(4, group, dim_feedforward=20)"
        )
