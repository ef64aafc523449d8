"""Products of dense layers are the same by either library; where autograd looks, it sees them."""

import pytest
import torch
from helpers import Operations, drawn, same_bits, same_number
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

from lincoln_fn.fastpath import product
from lincoln_fn.fastpath.product import is_amd_with

has_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN"
)


@pytest.fixture
def preferred(monkeypatch):
    """A processor on which oneDNN is faster, however small the product."""
    monkeypatch.setattr(product, "HERE", True)
    monkeypatch.setattr(product, "_LEAST", 1)
    monkeypatch.setattr(product, "_LEAST_SUM", 1)


ONEDNN = "_linear_pointwise"
ROWS = {
    "rows": drawn(0, 7, 12),
    "batches": drawn(1, 3, 5, 12),
    "one row": drawn(2, 12),
    "columns": drawn(3, 12, 2).mT,
    "every other": drawn(4, 7, 24)[:, ::2],
    "length first": drawn(5, 5, 3, 12).transpose(0, 1),
}
WEIGHTS = {
    "by rows": drawn(6, 40, 12), "by columns": drawn(7, 12, 40).mT,
    "with gaps": drawn(8, 40, 24)[:, ::2],
}  # fmt: skip


@has_onednn
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_is_the_product(rows, weight, has_bias, preferred):
    x, w, b = ROWS[rows], WEIGHTS[weight], drawn(9, 40) if has_bias else None
    exact = x.double() @ w.double().mT + (0 if b is None else b.double())
    y = product.linear(x, w, b)
    assert y.shape == exact.shape
    assert same_number(y, exact, dtype=torch.float32)
    assert same_bits(y, product.linear(x, w, b))


X, WEIGHT = ROWS["rows"], WEIGHTS["by rows"]
SUITS = [  # on a processor where oneDNN is faster
    (X, WEIGHT, True), (X, WEIGHTS["by columns"], True), (X, WEIGHTS["with gaps"], False),
    # Columns are copied first, which counts unless the weight is 16 times as large.
    (ROWS["columns"], drawn(6, 32, 12), True), (ROWS["columns"], drawn(6, 31, 12), False),
    (X.double(), WEIGHT.double(), False), (X.to("meta"), WEIGHT.to("meta"), False),
]  # fmt: skip


def test_which_products_suit(monkeypatch):
    large, weight = torch.empty(2, 2048), torch.empty(1024, 2048)
    monkeypatch.setattr(product, "HERE", True)
    assert product.onednn_is_faster(large, weight)
    assert not product.onednn_is_faster(large, weight[1:])  # with fewer multiply-adds
    monkeypatch.setattr(product, "_LEAST", 1)
    assert [product.onednn_is_faster(x, w) for x, w, _ in SUITS] == [row[2] for row in SUITS]
    monkeypatch.setattr(product, "HERE", False)
    assert not product.onednn_is_faster(large, weight)


@has_onednn
@pytest.mark.parametrize(("name", "has_vectors", "expected"), [
    ("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel Xeon", True, False),
])  # fmt: skip
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
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of torch's own making
def test_autograd_torch_func_and_tracers_see_the_product(preferred):
    learned, y = WEIGHT.clone().requires_grad_(), X.double() @ WEIGHT.double().mT
    with Operations() as seen:
        (slope,) = torch.autograd.grad(product.linear(X, learned).sum(), learned)
        slopes = torch.func.grad(lambda x: product.linear(x, WEIGHT).sum())(X)
        by_row = torch.func.vmap(lambda row: product.linear(row, WEIGHT))(X)
        tangents = [torch.func.jvp(lambda x: product.linear(x, WEIGHT), (X,), (X,))]
        with torch.no_grad(), forward_ad.dual_level():
            dual = product.linear(forward_ad.make_dual(X, X), WEIGHT)
            tangents.append(tuple(forward_ad.unpack_dual(dual)))
        with FakeTensorMode():
            product.linear(torch.empty(7, 12), torch.empty(40, 12))
    assert ONEDNN not in seen.names
    assert same_number(slope, X.sum(0).expand(40, 12))
    assert same_number(slopes, WEIGHT.sum(0).expand(7, 12))
    assert same_number([by_row, *tangents], [y, (y, y), (y, y)], dtype=torch.float32)
    with torch.no_grad(), Operations() as seen:
        assert not product.linear(X, learned).requires_grad
    assert ONEDNN in seen.names


ORDERS = {"by rows": lambda w: w.contiguous(), "by columns": lambda w: w.mT.contiguous().mT}


@has_onednn
@pytest.mark.usefixtures("preferred")
@pytest.mark.parametrize("n_out", [1, 10, 15, 16, 40])
@pytest.mark.parametrize(("rows", "here"), [(1, False), (700, False), (7, True)])
@pytest.mark.parametrize("order", ORDERS)
def test_outer_is_the_sum_over_rows_in_the_weights_order(rows, n_out, order, here, monkeypatch):
    monkeypatch.setattr(product, "HERE", here)
    x, g, weight = drawn(0, rows, 20), drawn(1, rows, n_out), ORDERS[order](drawn(2, 20, n_out))
    with Operations() as seen:
        made = product.outer(x, g, like=weight)
    # By rows, the product has n_out columns; a column alone is row-major, too.
    is_wide = n_out >= 16 or (order == "by columns" and n_out > 1)
    assert (ONEDNN in seen.names) is (here and is_wide)
    assert made.stride() == weight.stride()
    assert same_number(made, x.double().mT @ g.double(), length=max(256, rows), dtype=torch.float32)


@has_onednn
@pytest.mark.parametrize(("zen_5", "n_out", "by_onednn"), [
    (False, 29, False), (False, 30, True), (True, 16, True), (True, 15, False),
])  # fmt: skip
def test_a_copy_of_x_is_repaid_by_columns(zen_5, n_out, by_onednn, preferred, monkeypatch):
    monkeypatch.setattr(product, "_ZEN_5", zen_5)
    x, g = drawn(0, 30, 20), drawn(1, 30, n_out)
    with Operations() as seen:
        product.outer(x, g, like=x.mT @ g)
    assert (ONEDNN in seen.names) is by_onednn


@has_onednn
def test_which_sums_over_rows_are_left_to_mkl(preferred):
    x, g, weight = drawn(0, 7, 20), drawn(1, 7, 40), drawn(2, 20, 40)
    every_other = drawn(0, 7, 40)[:, ::2]
    with Operations() as seen:
        for bad_x, bad_g in (
            (x.double(), g.double()), (ORDERS["by columns"](x), g), (every_other, g),
            (x, ORDERS["by columns"](g)),
        ):  # fmt: skip
            dweight = product.outer(bad_x, bad_g, like=weight)
            assert same_number(dweight, bad_x.mT @ bad_g, dtype=torch.float32)
        torch.func.vmap(lambda x: product.outer(x, g, like=weight))(x[None])
        with FakeTensorMode():
            product.outer(torch.empty(7, 20), torch.empty(7, 40), like=torch.empty(20, 40))
    assert ONEDNN not in seen.names


@pytest.mark.parametrize(("rows", "terms", "columns", "is_narrow"), [
    (64, 128, 10, True), (65, 128, 2, False), (64, 128, 16, False), (15, 2000, 10, False),
    (1000, 128, 1, False),
])  # fmt: skip
def test_few_columns_are_computed_as_rows(rows, terms, columns, is_narrow, monkeypatch):
    monkeypatch.setattr(product, "HERE", False)
    monkeypatch.setattr(product, "MKL", True)
    x, weight, bias = drawn(0, rows, terms), drawn(1, columns, terms), drawn(2, columns)
    exact = x.double() @ weight.double().mT
    for make, expected in (
        (lambda: product.linear(x, weight), exact),
        (lambda: product.linear(x, weight, bias), exact + bias),
        (lambda: product.outer(x.mT.contiguous(), weight.mT.contiguous(), like=exact), exact),
    ):
        with Operations() as seen:
            y = make()
        shapes = [result.shape for _, _, result in seen.calls]
        assert ((columns, rows) in shapes) is is_narrow
        assert same_number(y, expected, dtype=torch.float32)
        assert y.is_contiguous()
    with Operations() as seen:  # autograd writes down torch's own product
        product.linear(x, weight.requires_grad_())
    assert (columns, rows) not in [result.shape for _, _, result in seen.calls]


@pytest.mark.parametrize(("shape", "stride", "expected"), [
    ((4, 3), (1, 4), True), ((4, 3), (1, 5), True), ((4, 3), (3, 1), False),
    ((4, 3), (1, 1), False), ((4, 1), (1, 1), False), ((1, 4), (1, 1), False),
    ((1, 4), (4, 1), False),
])  # fmt: skip
def test_which_weights_are_column_major(shape, stride, expected):
    assert product.is_column_major(torch.empty(20).as_strided(shape, stride)) is expected
