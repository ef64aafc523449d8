"""Products of dense layers are the same by either library; where autograd looks, it sees them."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf
from lincoln_fn.layers import _product, dense
from lincoln_fn.layers._processor import is_amd_with

has_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN"
)


@pytest.fixture
def preferred(monkeypatch):
    """A processor on which oneDNN is faster, however small the product."""
    monkeypatch.setattr(_product, "HERE", True)
    monkeypatch.setattr(_product, "_LEAST", 1)


def drawn(i, *shape):
    return lf.keys.normal(lf.Key(i), shape)


def close(given, exact):
    assert given.dtype is torch.float32
    assert (given - exact).abs().max() <= 2e-6 * exact.abs().max()


class Seen(TorchDispatchMode):
    """Lists the operations that run within it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


ONEDNN = "mkldnn._linear_pointwise.default"
ROWS = {
    "rows": drawn(0, 7, 12),
    "batches": drawn(1, 3, 5, 12),
    "one row": drawn(2, 12),
    "columns": drawn(3, 12, 2).mT,
    "every other": drawn(4, 7, 24)[:, ::2],
    "length first": drawn(5, 5, 3, 12).transpose(0, 1),
}
WEIGHTS = {
    "by rows": drawn(6, 40, 12),
    "by columns": drawn(7, 12, 40).mT,
    "with gaps": drawn(8, 40, 24)[:, ::2],
}


@has_onednn
@pytest.mark.usefixtures("preferred")
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_is_the_product(rows, weight, has_bias):
    x, w, b = ROWS[rows], WEIGHTS[weight], drawn(9, 40) if has_bias else None
    exact = x.double() @ w.double().mT + (0 if b is None else b.double())
    y = _product.linear(x, w, b)
    assert y.shape == exact.shape
    close(y, exact)
    assert torch.equal(y, _product.linear(x, w, b))


@has_onednn
@pytest.mark.usefixtures("preferred")
def test_which_products_suit():
    x, weight = ROWS["rows"], WEIGHTS["by rows"]
    assert _product.suits(x, weight)
    assert _product.suits(x, WEIGHTS["by columns"])
    # Columns are copied first, which counts unless the weight is 16 times as large.
    assert _product.suits(ROWS["columns"], drawn(6, 32, 12))
    assert not _product.suits(ROWS["columns"], drawn(6, 31, 12))
    assert not _product.suits(x, WEIGHTS["with gaps"])
    assert not _product.suits(x.double(), weight.double())
    assert not _product.suits(x.to("meta"), weight.to("meta"))


def test_small_products_and_other_processors_keep_mkl(monkeypatch):
    x, weight = torch.empty(2, 2048), torch.empty(1024, 2048)
    monkeypatch.setattr(_product, "HERE", True)
    assert _product.suits(x, weight)
    assert not _product.suits(x, weight[1:])
    monkeypatch.setattr(_product, "HERE", False)
    assert not _product.suits(x, weight)


@has_onednn
@pytest.mark.parametrize(
    ("name", "has_vectors", "expected"),
    [("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel Xeon", True, False)],
)
def test_which_way_is_faster_depends_on_the_processor(monkeypatch, name, has_vectors, expected):
    capabilities = {"cpu_name": name, "avx512_f": has_vectors}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert is_amd_with("avx512_f") is expected
    assert not is_amd_with("avx512_bf16")
    with monkeypatch.context() as without:
        without.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not is_amd_with("avx512_f")
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as of older versions of torch
    assert not is_amd_with("avx512_f")


@has_onednn
@pytest.mark.usefixtures("preferred")
def test_autograd_and_torch_func_see_the_product():
    x, weight = ROWS["rows"], WEIGHTS["by rows"]
    learned = weight.clone().requires_grad_()
    y = _product.linear(x, learned)
    (slope,) = torch.autograd.grad(y.sum(), learned)
    torch.testing.assert_close(slope, x.sum(0).expand(40, 12))
    with torch.no_grad(), Seen() as seen:
        assert not _product.linear(x, learned).requires_grad
    assert ONEDNN in seen.names
    slopes = torch.func.grad(lambda x: _product.linear(x, weight).sum())(x)
    torch.testing.assert_close(slopes, weight.sum(0).expand(7, 12))
    with Seen() as seen:
        by_row = torch.func.vmap(lambda row: _product.linear(row, weight))(x)
    close(by_row, x.double() @ weight.double().mT)
    assert ONEDNN not in seen.names


@has_onednn
@pytest.mark.usefixtures("preferred")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of torch's own making
def test_forward_mode_sees_the_product():
    x, weight = ROWS["rows"], WEIGHTS["by rows"]
    y, tangent = torch.func.jvp(lambda x: _product.linear(x, weight), (x,), (x,))
    torch.testing.assert_close(tangent, y)
    with torch.no_grad(), forward_ad.dual_level():
        y, tangent = forward_ad.unpack_dual(_product.linear(forward_ad.make_dual(x, x), weight))
        torch.testing.assert_close(tangent, y)


@has_onednn
@pytest.mark.usefixtures("preferred")
def test_a_traced_product_is_torch_s_own():
    with Seen() as seen:
        with FakeTensorMode():
            _product.linear(torch.empty(7, 12), torch.empty(40, 12))
        assert ONEDNN not in seen.names
        _product.linear(ROWS["rows"], WEIGHTS["by rows"])
    assert ONEDNN in seen.names


ORDERS = {"by rows": lambda w: w.contiguous(), "by columns": lambda w: w.mT.contiguous().mT}


@pytest.mark.parametrize("n_out", [1, 10, 15, 16])
@pytest.mark.parametrize("rows", [1, 700])
@pytest.mark.parametrize("order", ORDERS)
def test_outer_is_the_product_in_the_weight_s_order(rows, n_out, order):
    x, g, weight = drawn(0, rows, 20), drawn(1, rows, n_out), ORDERS[order](drawn(2, 20, n_out))
    product = _product.outer(x, g, like=weight)
    assert product.stride() == weight.stride()
    exact = x.double().mT @ g.double()
    tolerance = 2e-6 * exact.abs().max() + 1e-6
    assert (product - exact).abs().max() <= tolerance
    kept = weight.clone()
    added = _product.add_outer(weight, x, g, -0.5)
    assert torch.equal(weight, kept)
    assert added.stride() == weight.stride()
    assert (added - (kept.double() - 0.5 * exact)).abs().max() <= tolerance
    donated = _product.add_outer(weight, x, g, -0.5, donate=True)
    assert donated is not weight
    assert donated.data_ptr() == weight.data_ptr()
    assert donated.stride() == weight.stride()
    assert torch.equal(donated, added)


@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((512, 512), True),
        ((511, 512), False),
        ((16, 15), True),
        ((16, 16), False),
        ((15, 15), False),
        ((16, 1), False),  # both at once
    ],
)
def test_large_and_narrow_weights_lie_by_columns(shape, columns):
    n_in, n_out = shape
    weight = drawn(0, *shape)
    laid_out = _product.laid_out(weight)
    assert torch.equal(laid_out, weight)
    assert laid_out.stride() == ((1, n_in) if columns else (n_out, 1))
    params = lf.dense(n_out).init(lf.Key(0), torch.empty(1, n_in))
    assert params.weight.stride() == laid_out.stride()


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [
        ((4, 3), (1, 4), True),
        ((4, 3), (1, 5), True),
        ((4, 3), (3, 1), False),
        ((4, 3), (1, 1), False),
        ((4, 1), (1, 1), False),
        ((1, 4), (1, 1), False),
        ((1, 4), (4, 1), False),
    ],
)
def test_which_weights_lie_by_columns(shape, stride, expected):
    assert _product.lies_by_columns(torch.empty(20).as_strided(shape, stride)) is expected


@pytest.mark.parametrize("order", ORDERS)
def test_a_narrow_layer_descends_as_it_is_told(order):
    x, g = drawn(0, 700, 20), drawn(1, 700, 10)
    params = dense.Params(ORDERS[order](drawn(2, 20, 10)), drawn(3, 10))
    slopes = dense.grads(params, x, g)
    kept = [leaf.clone() for leaf in lf.tree.leaves(params)]
    moved = dense.descend(params, x, g, 0.1)
    for p, dp, new, old in zip(*map(lf.tree.leaves, (params, slopes, moved)), kept, strict=True):
        torch.testing.assert_close(new, old - 0.1 * dp)
        assert torch.equal(p, old)
        assert new.stride() == dp.stride() == p.stride()
    donated = dense.descend(params, x, g, 0.1, donate=True)
    for p, new, other in zip(*map(lf.tree.leaves, (params, donated, moved)), strict=True):
        assert p.data_ptr() == new.data_ptr()
        assert torch.equal(new, other)
