"""Every spelling of torch in a graph, beside torch: values, gradients by autograd, and errors."""

import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from helpers import largest, run, same_number
from helpers.compositions import check_walks

import lincoln_fn as lf
from lincoln_fn.combine._torch_names import ALIASES, ATTRIBUTES, METHODS, TABLE

KEY = lf.Key(5)
NUMBERS = torch.linspace(-1.0, 1.0, 4, dtype=torch.float64)
# The arguments, of which a spelling has those that it names. `p` is above 0.
X = {
    "a": lf.keys.normal(KEY.fold_in(0), (2, 3, 4), dtype=torch.float64),
    "b": lf.keys.normal(KEY.fold_in(1), (2, 3, 4), dtype=torch.float64),
    "p": lf.keys.uniform(KEY.fold_in(2), (2, 3, 4), dtype=torch.float64) + 0.5,
    "w": lf.keys.normal(KEY.fold_in(3), (4, 5), dtype=torch.float64),
    "s": lf.keys.normal(KEY.fold_in(4), (4,), dtype=torch.float64),
    "im": lf.keys.normal(KEY.fold_in(6), (2, 4, 6, 6), dtype=torch.float64),
    "m": lf.keys.uniform(KEY.fold_in(7), (2, 3, 4)) > 0.5,
    "ids": torch.tensor([[0, 2, 1], [1, 0, 0]]),
}
SPELLINGS = """
    a + b ; a + s ; 2 - a ; a - 3 ; a - b ; s - a ; a * b ; 3 * a ; a / 4 ; 2 / p ; a / p ; -a
    abs(a) ; a @ w ; torch.matmul(a, w) ; torch.bmm(a, b.mT) ; torch.mm(a[0], w) ; a.mT @ b
    w.T @ w ; w.t() @ w ; p ** 3 ; p ** -0.5 ; 2 ** a ; torch.pow(0.5, a) ; p.pow(2)
    torch.add(a, b, alpha=2) ; torch.sub(a, s) ; torch.subtract(a, b, alpha=0.5) ; torch.mul(a, b)
    a.multiply(b) ; torch.div(a, p) ; a.divide(p) ; torch.maximum(a, b) ; torch.minimum(a, b)
    a.abs() ; torch.absolute(a) ; torch.neg(a) ; a * (a > 0) ; (a > b) * a ; a * (0 < b)
    a * (a >= b) ; a * (a < 0.1) ; a * (a <= b) ; a * (ids != 0)[:, :, None]
    a * (ids == 0).unsqueeze(-1) ; torch.eq(ids, 1).float()[:, :, None] * a
    torch.where(a > 0, a, b) ; torch.where(m, a, 0.0) ; torch.where(m, 1.0, a) ; a.where(m, b)
    torch.where(a > b, 1.0, 0.0) * a ; a * m ; m * a + m ; a + (ids == 1).unsqueeze(2)
    1.0 - a * m ; a.masked_fill(m, -1e9).softmax(-1) ; a.masked_fill(~m, 0.0)
    a.masked_fill(b > 0, float("-inf")).exp() ; a * ((a > 0) & (b > 0)) ; a * ((a > 0) | m)
    a * (m ^ (b > 0)) ; a * (~(a > b)) ; torch.logical_not(m) * a ; torch.logical_and(m, b > 0) * a
    torch.logical_or(m, b > 0) * a ; torch.logical_xor(m, b > 0) * a
    torch.bitwise_and(m, b > 0) * a ; torch.bitwise_or(m, a > 0) * b
    torch.bitwise_xor(m, a > 0) * b ; torch.bitwise_not(m) * a ; a * torch.gt(a, b) ; a * a.ge(0)
    a * torch.lt(a, 0.5) ; a * a.le(b) ; a * a.ne(b) ; a.sign() * b ; torch.floor(a) * b
    a.ceil() + b ; a.round() * b ; a.trunc() + b ; torch.isnan(a) * b ; a.isinf() * b
    a.isfinite() * b ; torch.zeros_like(a) + b ; torch.ones_like(a) * b
    torch.full_like(a, 3.0) * b ; F.one_hot(ids, 4) * a ; F.one_hot(a.argmax(-1), 4) * b
    a.argmin(dim=1, keepdim=True) * b ; a.detach() * b ; a.clone() + b ; a.contiguous().view(6, 4)
    torch.cat([a, b]) ; torch.cat((a, b), dim=1) ; torch.cat([a, b], -1) ; torch.concat([a, b])
    torch.stack([a, b]) ; torch.concatenate([a, b], 2) ; torch.stack((a, b), dim=1)
    torch.stack([a, b], -1) ; a.flatten() ; a.flatten(1) ; torch.flatten(a, 0, 1)
    torch.flatten(a) ; a.flatten(start_dim=1, end_dim=2) ; a.reshape(4, -1) ; a.reshape(-1)
    a.reshape(-1, 8) ; a.reshape((6, 4)) ; torch.reshape(a, (3, 8)) ; a.view(2, -1) ; a.view(-1, 4)
    a.unflatten(-1, (2, 2)) ; a.transpose(1, 2) ; torch.transpose(a, 0, -1) ; a.swapaxes(0, 1)
    a.permute(2, 0, 1) ; a.permute((0, 2, 1)) ; torch.permute(a, (1, -1, 0)) ; a.movedim(0, 2)
    torch.movedim(a, (0, 1), (1, 2)) ; a.unsqueeze(1) * b.unsqueeze(2) ; torch.unsqueeze(a, -1)
    a[:, :1].squeeze(1) ; a[:1, :1].squeeze() ; a.squeeze((0, 1)) ; a.roll(1, 1) ; a.roll(2)
    torch.roll(a, (1, -2), (1, 2)) ; a.flip(1) ; torch.flip(a, (0, 2)) ; a.flip([-1])
    a.tile(2, 1) ; torch.tile(a, (2, 1, 1)) ; a.repeat(2, 1, 3) ; a.repeat_interleave(2, dim=1)
    s.expand(3, 4) ; a[:, :1].expand(-1, 5, -1) ; torch.broadcast_to(s, (2, 4))
    s.broadcast_to(2, 4) ; a.narrow(1, 1, 2) ; a.select(1, 2) ; a.diagonal() ; a.diagonal(1, 1, 2)
    a.tril() ; torch.triu(a, 1) ; a.chunk(2, -1)[1] ; torch.cat(a.chunk(2, dim=2), 1)
    a.split(1, dim=1)[2] ; torch.split(a, [1, 3], 2)[1] ; torch.chunk(a, 3, 1)[0] * 2
    a.unbind(1)[2] ; torch.unbind(a)[-1] ; F.pad(a, (1, 2)) ; F.pad(a, (1, 0, 2, 1), value=3.0)
    a[0] ; a[-1] ; a[:, 1:] ; a[..., 0] ; a[:, None] ; a[1, :, ::2] ; a[:, [2, 0, 0]]
    a[:, -1:, 1] ; a[None] ; a[:, 1, 2:3] ; w[ids] ; w[:, ids] ; a[range(2), ids[:, 0]]
    a[torch.tensor([1, 0, 1])] ; a[:, torch.tensor([0, 2])] ; a[torch.arange(2)[:, None], ids]
    NUMBERS[ids] * a[..., 0] ; ids[:, 1:].unsqueeze(-1) * a[:, 1:] ; w.gather(0, ids)
    torch.gather(w, 0, ids) ; torch.index_select(w, 0, ids[0])
    w.scatter(0, ids[:1], b[0, :1, :3]) ; torch.scatter_add(w, 0, ids, b[:, :, 0]) ; a.sum()
    a.sum(1) ; a.sum((0, 2)) ; a.sum(-1, keepdim=True) ; a.sum(1, True) ; torch.sum(a, dim=[0, 1])
    a.mean() ; a.mean(-1) ; a.amax(1) ; torch.amax(a, (0, 1)) ; a.amin(-1, keepdim=True) ; a.max()
    torch.min(a) ; torch.logsumexp(a, -1) ; a.logsumexp((1, 2)) ; a.var() ; a.var(1)
    a.var(-1, keepdim=True) ; a.var(-1, unbiased=False) ; torch.var(a, 1, correction=0)
    a.var(False) ; a.std(1) ; torch.std(a, dim=(0, 1), correction=2) ; a.norm() ; a.norm(dim=1)
    a.norm(3, -1, True) ; torch.norm(a, p=2.0, dim=(1, 2)) ; a.exp() ; torch.exp(a) ; p.log()
    p.sqrt() ; torch.rsqrt(p) ; p.reciprocal() ; a.square() ; a.sin() ; torch.cos(a) ; a.sigmoid()
    torch.tanh(a) ; a.relu() ; torch.relu(a) ; F.relu(a) ; F.sigmoid(a) ; F.tanh(a) ; F.silu(a)
    F.mish(a) ; F.relu6(a) ; F.selu(a) ; F.hardswish(a) ; F.hardsigmoid(a) ; F.softsign(a)
    F.tanhshrink(a) ; F.logsigmoid(a) ; F.gelu(a) ; F.gelu(a, approximate="tanh") ; F.elu(a)
    F.elu(a, alpha=0.5) ; F.celu(a, 2.0) ; F.leaky_relu(a, 0.2) ; F.hardtanh(a, -0.5, 0.5)
    F.hardshrink(a, 0.3) ; a.hardshrink() ; F.softshrink(a) ; F.softplus(a) ; F.softplus(30 * a)
    F.softplus(a, beta=2, threshold=1) ; F.threshold(a, 0.1, 20.0) ; F.glu(a, -1) ; F.glu(a)
    a.clamp(-0.5, 0.5) ; torch.clamp(a, max=0.3) ; a.clip(min=0.0) ; F.softmax(a, dim=-1)
    a.softmax(1) ; torch.softmax(a, 0) ; F.log_softmax(a, 1) ; a.log_softmax(-1)
    F.softmin(a, dim=2) ; F.softmax(a, -1, dtype=torch.float64) ; a.sum(1, dtype=torch.float64)
    a.to(torch.float64) ; m.double() * a ; m.to(torch.float64) * a
    (ids > 0).long().unsqueeze(2) * a ; m.int() * a ; m.float() * a ; ids.bool()[..., None] * a
    m.half() * a ; m.bfloat16() * a ; F.layer_norm(a, (4,)) ; F.layer_norm(a, (3, 4))
    F.layer_norm(a, (4,), s, b[0, 0], 1e-3) ; torch.layer_norm(a, [4], weight=s)
    F.rms_norm(a, (4,)) ; F.rms_norm(a, (4,), s, eps=1e-3) ; F.normalize(a)
    F.normalize(a, dim=-1) ; F.linear(a, w.T) ; F.linear(a, w.mT, w[0]) ; F.embedding(ids, w)
    F.scaled_dot_product_attention(a, b, p)
    F.scaled_dot_product_attention(a, b, p, is_causal=True, scale=0.3)
    F.scaled_dot_product_attention(a, b, p, attn_mask=w[:3, :3]) ; F.avg_pool2d(im, 2)
    F.avg_pool1d(a, 2, stride=1) ; F.max_pool2d(im, 2) ; F.max_pool2d(im, 3, stride=2, padding=1)
    F.max_pool1d(a, 2) ; F.adaptive_avg_pool2d(im, 2) ; F.adaptive_avg_pool1d(a, 2)
    F.max_pool3d(im, 2) ; F.avg_pool3d(im, 2) ; F.adaptive_avg_pool3d(im, 2)
    F.pixel_shuffle(im, 2) ; F.pixel_unshuffle(im, 3) ; torch.einsum("bij,bkj->bik", a, b)
    torch.einsum("bij,jk->bik", a, w) ; torch.einsum("bij->j", a) ; torch.einsum("bij,bij", a, b)
    torch.einsum("bij,bkj,kj->i", a, b, p[0]) ; torch.einsum("ij,k->ikj", w, s)
    torch.einsum("bij,bij->bij", a, b[:, :1]) ; a * torch.ones(3, 1) ; torch.ones(4) + a
    a @ torch.ones(4, 2, dtype=torch.float64) ; torch.arange(4) * a ; a * torch.tensor(2.0)
    a - NUMBERS ; a * NUMBERS.numpy().tolist()[0] ; torch.cat([a, torch.zeros(2, 3, 1)], -1)
    torch.where(torch.ones(3, 4) > 0, a, b) ; NUMBERS > a ; torch.tril(torch.ones(3, 4)) * a
    a.masked_fill(torch.ones(3, 4).triu(1).bool(), 0.0) ; NUMBERS == a
"""


def read(spelling):
    """Make a function of the arguments that a spelling names, and give these."""
    names = [name for name in X if name in compile(spelling, "", "eval").co_names]
    return eval(f"lambda {', '.join(names)}: {spelling}", globals()), [X[name] for name in names]


@pytest.mark.parametrize("line", SPELLINGS.strip().splitlines())
def test_a_spelling_of_torch_has_torchs_value_and_gradient(line):
    for spelling in line.split(" ; "):
        function, x = read(spelling.strip())
        given = [v.clone().requires_grad_(v.is_floating_point()) for v in x]
        expected = function(*given)
        net, x = lf.graph(function), tuple(x) if len(x) > 1 else x[0]
        y, cache = net.forward((), x)
        assert y.dtype == expected.dtype, spelling
        assert same_number(y, expected.detach()), spelling
        if not expected.requires_grad:
            continue
        g = lf.keys.normal(lf.Key(9), tuple(y.shape), dtype=torch.float64)
        floats = [v for v in given if v.requires_grad]
        slopes = iter(torch.autograd.grad(expected, floats, g, allow_unused=True))
        dx, _ = net.backward((), cache, g)
        for v, d in zip(given, dx if isinstance(dx, tuple) else (dx,), strict=True):
            slope = next(slopes) if v.requires_grad else None
            if slope is None:
                assert d is None or not d.any(), spelling
            else:
                # torch keeps the slope of hardsigmoid, 1 / 6, in float32.
                error = 1e-7 if "hardsigmoid" in spelling else 0.0
                assert same_number(d, slope, terms=largest([slope]), error=error), spelling


def test_every_row_of_the_table_is_among_the_spellings():
    words = {*re.findall(r"\w+", SPELLINGS)}
    words |= {ALIASES.get(word, word) for word in words}
    operators = {"getitem", "and", "or", "xor", "invert"}
    refused = {"prelu", "take"}
    assert {*TABLE, *ATTRIBUTES, *METHODS} - words - operators - refused == set()


REFUSED = {
    "a.cumsum(1)": "cumsum is not an operation of a graph; write .*from_function",
    "a.shape[0]": "shape is not .* write sizes as numbers, and flatten",
    "a.size(0)": "size is not .* write sizes",
    "a.relu_()": "relu_ is not .* write relu, which changes nothing in place",
    "F.relu(a, inplace=True)": "relu with inplace=True is not",
    "F.dropout(a, 0.1)": r"torch's dropout is not .* write v.dropout\(...\), which is lf.dropout",
    "F.conv2d(im, w)": r"torch's conv2d is not .* write v.conv2d",
    "F.batch_norm(a, None, None)": r"write v.batch_norm\(...\)",
    "F.cross_entropy(w, ids)": "write it beside the graph; the losses are in lf.losses",
    "F.mse_loss(a, b)": "the losses are in lf.losses",
    "F.interpolate(im, scale_factor=2)": "write v.upsample",
    "F.softmax(a)": r"softmax without dim .* write softmax\(v, dim=-1\)",
    "a.max(1)": r"max with arguments .* write v.amax\(dim\), v.argmax",
    "torch.min(a, b)": r"write v.amin\(dim\), v.argmin\(dim\) or v.minimum",
    "a ** b": r"a power of two values is not .* write \(b \* a.log",
    "a // 2": "write a division with floor",
    "a % 2": "mod is not an operation",
    "F.normalize(a, p=1)": "write v / v.norm",
    "F.pad(a, (1, 1), mode='reflect')": "write v.reflection_pad2d",
    "torch.einsum('...i,i->...', a, s)": "expected an equation with a letter for each axis",
    "torch.einsum('bii->b', a)": "expected an equation with a letter for each axis",
    "a.to('cuda')": "write v.to\\(dtype\\); a graph runs where its inputs are",
    "a.take(ids)": "expected take\\(x, index, dim\\): missing a required argument: 'dim'",
    "F.prelu(a, s)": "prelu with a weight is not .* write v.prelu",
    "a.sum(1, axis=2)": "expected sum.*got an unexpected keyword argument 'axis'",
    "a.reshape(a, 2)": "expected sizes as ints",
    "a.backward()": "write lf.gradients_by_name",
    "a.item()": "write lf.inspect.outputs",
    "a * NUMBERS.clone().requires_grad_()": "make it a keyword-only argument, which init makes",
    "a if a.sum() > 0 else b": r"not true or false; write torch.where\(condition, a, b\)",
    "a and b": "not true or false",
    "[*a.split(1)]": "not iterated over; write v",
    "torch.atan2(a, b)": "atan2 is not an operation of a graph; write v.apply",
    "NUMBERS.numpy() * a": r"mul: expected values .* and numbers, got ndarray",
    "a + 'b'": "graph: add: expected values of the graph and numbers, got 'b'",
}


@pytest.mark.parametrize("spelling", REFUSED)
def test_a_spelling_that_is_no_operation_is_refused_with_what_to_write(spelling):
    with pytest.raises(lf.LayerError, match=REFUSED[spelling]):
        lf.graph(read(spelling)[0])


def encode(ids, *, table, w, b):
    """Embed, attend and pool without padding, in torch's spelling."""
    mask = ids != 0
    h = F.embedding(ids, table) + torch.linspace(0, 1, 6).view(3, 2).repeat(1, 2)
    q, k = h.chunk(2, -1)
    scores = torch.einsum("bid,bjd->bij", q, k).masked_fill(~mask[:, None], float("-inf"))
    seen = (h > 0).float().mean(-1, keepdim=True)
    h = F.layer_norm(F.softmax(scores, -1) @ h + seen, (4,), w, b)
    h = h.transpose(1, 2).roll(1, 1).transpose(1, 2) * mask.unsqueeze(-1)
    y = h[:, 1:].reshape(-1, 8) @ torch.eye(8)[:, :5]
    return torch.cat([y, h.sum(1)], 1), locals()


def drawn(key, x):
    shapes = {"table": (3, 4), "w": (4,), "b": (4,)}
    pairs = enumerate(shapes.items())
    return {name: lf.keys.normal(key.fold_in(i), shape) for i, (name, shape) in pairs}


@pytest.mark.full
def test_a_network_in_torchs_spelling_is_a_layer_in_every_way():
    net, ids = lf.graph(encode, init=drawn), X["ids"]
    params = net.init(lf.Key(0), ids)
    assert [*params] == ["table", "w", "b"]
    lf.testing.check_layer(net, params, ids)
    check_walks(net, ids)
    copy = pickle.loads(pickle.dumps(net))
    given = {name: value.clone().requires_grad_() for name, value in params.items()}
    y, values = encode(ids, **given)
    found, cache = copy.forward(params, ids)
    assert same_number(found, y.detach())
    g = lf.keys.normal(lf.Key(1), tuple(y.shape))
    named = lf.gradients_by_name(copy, params, cache, g)
    names = ["table", "w", "b", "q", "k", "h", "y"]
    slopes = torch.autograd.grad(y, [values[name] for name in names], g)
    for name, slope in zip(names, slopes, strict=True):
        assert same_number(named[name], slope, terms=largest(slopes)), name
    assert named["mask"] is None
    trace = lf.inspect.trace(net, params, ids, lf.losses.mse(), torch.zeros_like(found))
    seen = {record.name.partition(" = ")[0]: record for record in trace}
    assert seen["mask"].gradient_norm is None  # it has no numbers
    assert seen["einsum"].gradient_norm > 0
    (axes,) = lf.plots.graph(net, named).figure.axes
    assert any("masked" not in text.get_text() and "roll" in text.get_text() for text in axes.texts)


def test_a_parameter_read_by_a_comparison_alone_gets_a_gradient_of_0():
    net, x = lf.graph(lambda x, *, w: x * (x @ w > 0)), X["a"]
    params = {"w": torch.diag(NUMBERS)}
    y, dx, dparams = run(net, params, x, torch.ones_like)
    assert same_number(dx, (y != 0).double())
    assert dparams["w"].shape == (4, 4)
    assert not dparams["w"].any()


def test_a_value_is_equal_to_nothing_and_has_the_hash_of_its_identity():
    def compared(x):
        same = x == x  # a value, which is not True
        assert same is not True
        assert len({x, same, x}) == 2
        return same.float() * x

    assert [part.name for part in lf.graph(compared).parts] == [
        "eq = eq()", "to = to(torch.float32)", "multiply = multiply()",
    ]  # fmt: skip


def test_a_constant_takes_the_dtype_of_what_it_meets():
    net = lf.graph(lambda x: x.half() @ torch.ones(4, 2) + torch.ones(2, dtype=torch.int64))
    y, cache = net.forward((), X["a"])
    assert y.dtype is torch.float32
    assert net.input_grad((), cache, torch.ones_like(y)).dtype is torch.float64
    wide = lf.graph(lambda x: x + torch.ones(4, dtype=torch.float64)).predict((), torch.ones(4))
    assert wide.dtype is torch.float64  # as torch has it
