"""What a compiled step puts in the place of products, pooling and sequences, by graph."""

import pytest
import torch
from helpers import assert_same_after, assert_says, begin, same_bits, same_number
from helpers.compiling import T, compiles, compiles_in_full
from helpers.graphs import column_major, drawn, run, targets, trace, traced
from torch._inductor.utils import fresh_cache
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.compiler import graphs
from lincoln_fn.compiler.inductor.settings import IS_KNOWN
from lincoln_fn.compiler.passes import pooling, products, rewriting
from lincoln_fn.compiler.passes.rewriting import _is_number, materialize, mm_by_onednn
from lincoln_fn.fastpath import product

aten = torch.ops.aten


NET = lf.serial(lf.dense(20), lf.tanh(), lf.dense(3))


@pytest.mark.parametrize("momentum", [0.0, pytest.param(0.9, marks=pytest.mark.full)])
def test_the_products_of_a_step_are_found(momentum):
    graph, arguments = traced(NET, drawn(0, 6, 5), optimizer=lf.optim.sgd(0.1, momentum=momentum))
    if momentum:  # for which the kernel of each product is built
        assert_same_after(products.rewrite, graph, arguments)
    else:
        products.rewrite(graph)
    called = targets(graph)
    # Of two layers y, dW, and the second's dx; what is added to them is apart.
    assert called.count(products.product) == 5
    assert not {aten.mm.default, aten.addmm.default} & set(called)


SMALL_OR_NOT = [(6, 5), (6, 3276), (13, 3200), (64, 1000), (65, 1000), (6, 3277), (110, 1000)]


@pytest.mark.full(but=("[6-3276", "[6-3277"))
@pytest.mark.parametrize(("rows", "size"), SMALL_OR_NOT)
def test_a_step_of_few_numbers_is_small(rows, size):
    # W has 20 times as many numbers as a row of x.
    graph, _ = traced(NET, drawn(0, rows, size), torch.arange(rows) % 3)
    assert products.is_small(graph) == ((rows, size) not in ((6, 3277), (110, 1000)))


SMALL = torch.ops.lincoln_fn.small_product.default
# The shapes of a and b, and what makes their product; below, small ones have no kernel.
WAYS = {
    "small": (6, 5, 20, SMALL if IS_KNOWN else "plain"), "few columns": (70, 1100, 5, "as rows"),
    "of many rows": (1000, 64, 10, "as rows"), "large": (70, 1100, 20, "plain"),
    "in double precision": (6, 5, 20, "plain"),
}  # fmt: skip


def made_by(a, b):
    """Give the operation that makes a product, and compare it."""
    graph = make_fx(products.product)(a, b)
    exact, made = a.double() @ b.double(), graph(a, b)
    assert made.dtype is a.dtype
    assert same_number(made, exact, length=max(256, a.shape[-1]), dtype=a.dtype)
    called = targets(graph)
    if aten.mm.default not in called:
        (operation,) = {SMALL, mm_by_onednn} & set(called)
        return operation
    # Written to memory, lest ATen add what is added to it.
    assert aten.as_strided.default in called
    (node,) = graph.graph.find_nodes(op="call_function", target=aten.mm.default)
    return "plain" if node.meta["val"].shape == made.shape else "as rows"


@pytest.mark.full(but=("of many rows", "large", "in double precision"))
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_each_product_is_made_in_its_way(monkeypatch, name, by_columns, needs_vectors):
    monkeypatch.setattr(product, "HERE", False)
    monkeypatch.setattr(product, "MKL", True)
    rows, terms, columns, expected = WAYS[name]
    a, b = drawn(0, rows, terms), drawn(1, terms, columns)
    if name == "in double precision":
        a, b = a.double(), b.double()
    assert made_by(a, b.mT.contiguous().mT if by_columns else b) == expected


@pytest.fixture
def by_onednn(monkeypatch):
    """Give what lets oneDNN make the products of at least so many multiply-adds."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch without oneDNN")

    def allow(least):
        monkeypatch.setattr(product, "HERE", True)
        monkeypatch.setattr(product, "_LEAST", least)
        monkeypatch.setattr(product, "_LEAST_SUM", least)
        monkeypatch.setattr(products, "_MOST", 0)

    return allow


def test_large_products_are_made_by_onednn(by_onednn):
    by_onednn(600)
    a, b = drawn(0, 6, 5), drawn(1, 5, 20)
    assert made_by(a, b) is mm_by_onednn
    assert made_by(a, b.mT.contiguous().mT) is mm_by_onednn
    # A sum over rows.
    assert made_by(a.mT.contiguous().mT, b) is mm_by_onednn
    assert made_by(a[:, :4], b[:4]) == "plain"
    assert made_by(a, b.repeat_interleave(2, 1)[:, ::2]) == "plain"


@compiles_in_full
@pytest.mark.skipif(not IS_KNOWN, reason="an older torch calls it from Python")
@pytest.mark.parametrize("by_columns", [False, True])
def test_onednn_is_called_from_compiled_code(by_onednn, monkeypatch, by_columns):
    by_onednn(180_000)
    x = drawn(0, 6, 1500)
    step, state = begin(NET, x)
    state = column_major(state) if by_columns else state
    fast, expected = lf.compile(step), step(state, (x, T))
    called = []
    with fresh_cache(), monkeypatch.context() as patched:  # lest it be found on disk
        by_inductor = graphs.by_inductor

        def noted(graph, inputs):
            called.extend(targets(make_fx(graph)(*inputs)))
            return by_inductor(graph, inputs)

        patched.setattr(graphs, "by_inductor", noted)
        assert same_number(fast(state, (x, T)), expected)
    assert called.count(mm_by_onednn) == 2  # y and dW of the first layer
    # From Python, as Inductor would call it, it is out of reach now.
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    assert same_number(fast(state, (x, T)), expected)


@pytest.mark.full
def test_products_of_many_matrices(monkeypatch):
    a, b = drawn(0, 6, 5, 7), drawn(1, 6, 7, 20)

    def made(a, b):
        graph = make_fx(torch.bmm)(a, b)
        assert_same_after(products.rewrite, graph, (a, b))
        (target,) = targets(graph)
        return target

    is_known = products.suits_kernel(a, b)
    assert made(a, b) is (products.by_kernel if is_known else aten.bmm.default)
    assert made(a.double(), b.double()) is aten.bmm.default
    monkeypatch.setattr(products, "_MOST", 0)
    assert made(a, b) is aten.bmm.default


def images(*shape):
    return drawn(3, *shape).to(memory_format=torch.channels_last)


POOLS = {
    "2 by 2": ((2, 2), images(3, 8, 6, 10)),
    "2 by 3, ties": ((2, 3), images(2, 9, 4, 9).round()),
    "1 by 2": ((1, 2), images(2, 8, 3, 4)),
    "all equal": ((2, 2), torch.zeros(2, 8, 4, 4).to(memory_format=torch.channels_last)),
    "infinite": ((2, 2), torch.full((1, 8, 2, 2), -torch.inf)),
}


@pytest.mark.full
@pytest.mark.parametrize(("kernel", "x"), POOLS.values(), ids=POOLS)
def test_pooling_in_loops_is_aten_s(kernel, x):
    y, indices = aten.max_pool2d_with_indices(x, kernel)
    ours, places = pooling.pool(x, kernel)
    assert same_number(ours, y)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert places.dtype is torch.int8
    g = drawn(4, *y.shape)
    for way in (g, g.to(memory_format=torch.channels_last)):
        dx = pooling.pool_backward(way, places, kernel)
        expected = aten.max_pool2d_with_indices_backward(
            g, x, kernel, kernel, [0, 0], [1, 1], False, indices
        )
        assert same_number(dx, expected)


def pooled(pool, size=8, channels=8):
    net = lf.serial(lf.conv2d(channels, 3, padding=1), lf.relu(), pool, lf.flatten(), lf.dense(3))
    return traced(net, images(6, 2, size, size))


@pytest.mark.full
def test_pooling_side_by_side_becomes_loops():
    graph, arguments = pooled(lf.max_pool2d(2))
    assert_same_after(pooling.rewrite, graph, arguments)
    called = targets(graph)
    assert called.count(pooling.pool) == called.count(pooling.pool_backward) == 1
    assert "max_pool" not in " ".join(map(str, called))


OTHERS = {
    "overlapping": (lf.max_pool2d(2, 1), {}),
    "dilated": (lf.max_pool2d(2, 2, dilation=2), {}),
    "padded": (lf.max_pool2d(2, padding=1), {}),
    "with gaps": (lf.max_pool2d(2, 3), {}),
    "not filled": (lf.max_pool2d(2), {"size": 7}),
    "large": (lf.max_pool2d(5), {"size": 10}),
    "few channels": (lf.max_pool2d(2), {"channels": 4}),
}


@pytest.mark.full(but=("overlapping",))
@pytest.mark.parametrize(("pool", "options"), OTHERS.values(), ids=OTHERS)
def test_other_pooling_is_left_to_aten(pool, options):
    graph, _ = pooled(pool, **options)
    pooling.rewrite(graph)
    rewriting.to_torch(graph)
    called = [str(target) for target in targets(graph) if "pool" in str(target)]
    own = "lincoln_fn.max_pool2d_with_indices"
    assert called == [f"{own}.default", f"{own}_backward.default"]


def test_pooling_whose_indices_are_used_otherwise_is_left_to_aten():
    def forward(params, x):
        y, indices = aten.max_pool2d_with_indices(x, [2, 2])
        return y + 0 * indices, (x, indices)

    def backward(params, cache, g):
        window = [2, 2], [2, 2], [0, 0], [1, 1], False
        return aten.max_pool2d_with_indices_backward(g, cache[0], *window, cache[1]), ()

    graph, _ = pooled(lf.Layer("indexed()", forward, backward))
    pooling.rewrite(graph)
    assert pooling.pool not in targets(graph)


def test_numbers_that_tensors_are_made_with_are_written_before():
    graph, arguments = traced(NET, drawn(0, 6, 5), optimizer=lf.optim.adamw(0.1))
    assert len(graph.graph.find_nodes(op="call_function", target=aten.pow.Scalar)) == 2
    assert_same_after(rewriting.write_numbers, graph, arguments)
    assert "materialize" in graph.code
    ways = {
        number.target
        for node in graph.graph.nodes
        if node.op == "call_function" and node.target is not aten.isfinite.default
        for number in node.all_input_nodes
        if not _is_number(node) and _is_number(number) and number.all_input_nodes
    }
    assert ways == {materialize}


@pytest.mark.parametrize(("place", "expected"), [(0, 1), (1, 0)])
def test_what_is_cut_out_of_a_tensor_is_not_written_from_its_beginning(place, expected):
    def cut(x):
        return materialize(x.exp()[place])

    assert targets(make_fx(cut)(drawn(0, 2, 3))).count(aten.as_strided.default) == expected
    x = drawn(0, 2, 3)
    assert same_bits(materialize(x[place]), x[place])


@pytest.mark.full
def test_an_lstm_is_one_operation_here_and_cells_elsewhere():
    x = drawn(0, 6, 4, 3)
    step, state = begin(lf.serial(lf.lstm(5), lf.flatten(), lf.dense(3)), x)
    expected = run(trace(step, state, (x, T)).graph, (state, (x, T)))
    for here in (True, False):
        graph = trace(step, state, (x, T), here=here).graph
        called = [target for target in map(str, targets(graph)) if "lincoln_fn" in target]
        names = ["lincoln_fn.lstm.default", "lincoln_fn.lstm_backward.default"]
        assert called == (names if here else [])
        assert same_number(run(graph, (state, (x, T))), expected)


def test_what_was_changed_in_place_may_come_to_lie_otherwise_in_memory():
    two = torch.arange(36).view(6, 2, 3) % 4

    def backward(z, g=1.0):
        return z.exp().scatter_(1, two, 2.0)

    loss = lf.Loss("mine()", lambda z, target: (z.sum(), z), backward)
    net = lf.serial(lf.dense(4), lf.permute(0, 2, 1))
    x = drawn(0, 6, 3, 5)
    step, state = begin(net, x, loss)
    graph = trace(step, state, (x, x)).graph
    expected, _ = step(state, (x, x))
    assert same_number(run(graph, (state, (x, x)))[:2], lf.tree.leaves(expected.params))


def test_a_state_is_not_taken_for_another(uncompiled):
    x = drawn(0, 6, 5)
    (step, state), (donating, _) = (begin(lf.dense(3), x, donate=d) for d in (False, True))
    compiled = lf.compile(step)
    first, _ = compiled(state, (x, T))
    for _ in range(2):  # the tensors remembered, and found anew
        assert same_number(compiled(first, (x, T)), step(first, (x, T)))
    # A state of the same tensors, then updated in place by another step.
    second, _ = compiled(first, (x, T))
    assert len(compiled.run.graphs.made) == 1
    donating(second, (x, T))
    assert_says("updated in place, got params ... empty", compiled, second, (x, T))
    del first, second
    assert len(compiled.run.graphs.made) == 0
    assert len(compiled.run.graphs.kinds) == 1


@compiles
@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (0, 1), (0, 0.5), (2, 0.5), (1, -0.5)])
def test_a_product_is_added_as_torch_adds_it(beta, alpha, uncompiled):
    """With beta = 0, whatever is in the summand does not count, nan too."""

    def pure(given, batch):
        c, a, b = given
        return torch.addmm(c, a, b, beta=beta, alpha=alpha) + batch

    c = torch.full((4, 3), torch.nan) if beta == 0 else drawn(1, 4, 3)
    given, batch = (c, drawn(2, 4, 5), drawn(3, 5, 3)), drawn(4, 4, 3)
    assert same_number(lf.compile(pure)(given, batch), pure(given, batch))
