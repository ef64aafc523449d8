"""Functions of numpy run on exact numbers as they are, and their gradients are proven."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_says, normal, uniform
from helpers.reals import Reals, check_in_the_field, check_on_reals
from helpers.submissions import loops

import lincoln_fn as lf
from lincoln_fn.testing import Proof, Refutation, Undecided, from_numpy, prove
from lincoln_fn.testing.exact import arrays
from lincoln_fn.testing.exact.arrays import ExactArray, numpy_for
from lincoln_fn.testing.exact.field import READ, TIE, Field, MissingError
from lincoln_fn.testing.exact.numbers import Numbers, Table
from lincoln_fn.testing.exact.rules import FUNCTIONS

A, B = (normal(3, 4, seed=n).double().numpy() for n in (0, 1))
POSITIVE = uniform(3, 4, low=0.5, high=3.0).double().numpy()
MATRIX, VECTOR, CUBE = (normal(*n).double().numpy() for n in ((4, 5), (4,), (2, 3, 4)))
AT, MASK = np.array([2, 0, 1, 0]), A > 0


def written(np, a, b):
    out = np.empty_like(a)
    out[...] = a
    out[0] = b[1]
    out[1:, 2] = 0.5
    out *= b
    out[MASK] = b[MASK]
    view = out[1:]
    view += a[1:]
    view[:, AT[:2]] -= 3
    return out


def added_at(np, a, b):
    out = np.zeros((3, 4))
    np.add.at(out, (slice(None), AT), a)
    np.add.at(out, AT[:3], b)
    return out


def in_loops(np, a, b):
    out, total = np.empty(a.shape), 0.0
    for i in range(len(a)):
        for j, each in enumerate(a[i]):
            total += each
            before = total
            total += max(b[i, j], 0.0)
            out[i, j] = total * before
    return out + sum(row.sum() for row in b)


# By what is shown: a function of numpy, and its arguments. Each function of the tables is here.
SHOWN = {
    "written": (written, A, B),
    "added at": (added_at, A, B),
    "in loops": (in_loops, A, B),
    "arithmetic": (lambda np, a, b: a + 2 - b * 0.3 + 3 / b - 1 + (1 - +a) * -b, A, POSITIVE),
    "floors": (lambda np, a, b: a * (np.floor_divide(a, b) + a % b + np.floor(a)), A, POSITIVE),
    "steps": (lambda np, a: a * (np.ceil(a) + np.trunc(3 * a) + np.rint(a) + np.round(a)), A),
    "powers": (lambda np, a, b: a ** 2 + 1 / a ** 2 + np.power(1.7, b) + np.float_power(a, b),
        POSITIVE, B),
    "squares": (lambda np, a: np.square(a) + np.reciprocal(a) + np.sqrt(a) + a ** 0.5, POSITIVE),
    "exp": (lambda np, a: np.exp(a) + np.expm1(a) + np.exp2(a) + np.logaddexp(a, 1.0), A),
    "log": (lambda np, a: np.log(a) + np.log1p(a) + np.log2(a) + np.log10(a), POSITIVE),
    "sin": (lambda np, a: np.sin(a) + 2 * np.cos(a) + np.tan(a), A),
    "tanh": (lambda np, a: np.tanh(a) + np.sinh(a) + 2 * np.cosh(a), A),
    "abs": (lambda np, a: np.abs(a) + np.fabs(a) + a * np.sign(a), A),
    "maximum": (lambda np, a, b: np.maximum(a, b) - np.minimum(a, 0) + np.fmax(a, b) * np.fmin(b,
        a), A, B),
    "clip": (lambda np, a: np.clip(a, -0.5, 0.3) + a.clip(min=0.1) + np.clip(a, None, 0), A),
    "sums": (lambda np, a: a.sum(1, keepdims=True) + np.sum(a) + a.sum(axis=(0, 1)) + np.trace(a @
        a.T), A),
    "means": (lambda np, a: a.mean(0) + np.mean(a) + np.var(a, axis=0, ddof=1) + a.std(), A),
    "products": (lambda np, a: a.prod(0) + np.prod(a) + np.cumprod(a, 1) + a.cumsum(0), A),
    "norms": (lambda np, a: np.linalg.norm(a) + np.linalg.norm(a, axis=0) + np.linalg.norm(a, 1, 0),
        A),
    "max": (lambda np, a: a.max(0) - np.min(a) + np.amax(a, 1, keepdims=True) * np.amin(a), A),
    "reduced": (lambda np, a: np.add.reduce(a) + np.multiply.reduce(a) + np.maximum.reduce(a, 0) -
        np.minimum.reduce(a) + np.add.accumulate(a) * np.multiply.accumulate(a), A),
    "order": (lambda np, a: np.sort(a, 0) + a[np.argsort(a[:, 0])] + a[np.argmin(a) % 3], A),
    "chosen": (lambda np, a: np.take_along_axis(a, a.argmax(1)[:, None], 1) + a[a.argmax(0), AT],
        A),
    "matmul": (lambda np, a, m, v: a @ m + np.matmul(a, v)[:, None] + v @ m, A, MATRIX, VECTOR),
    "dot": (lambda np, a, m, v: a.dot(m) + np.dot(a, v)[:, None] + np.inner(v, v), A, MATRIX,
        VECTOR),
    "outer": (lambda np, a, v: np.outer(a, v) + np.kron(v, a.reshape(-1, 1)) + np.vdot(v, v), A,
        VECTOR),
    "tensordot": (lambda np, c, m: np.tensordot(c, m, 1) + np.tensordot(c, m, axes=([2], [0])),
        CUBE, MATRIX),
    "einsum": (lambda np, c, m: np.einsum("nij,jk->nik", c, m, optimize=True) + np.einsum("nij->nj",
        c)[:, :1, None] + np.einsum("ij,jk", c[0], m), CUBE, MATRIX),
    "convolve": (lambda np, v, a: np.convolve(v, a[0]) + np.cross(a[:, :3], a[:, 1:])[0, 0], VECTOR,
        A),
    "asked": (lambda np, a, b: np.where((a < b) | (a <= -9) | (a >= 1.5) & (b != a) | (a == 2), a,
        b) * (a > 0) * np.isfinite(a), A, B),
    "truth": (lambda np, a: a * np.any(a, 0) * np.all(a) * np.logical_not(a) +
        a[np.nonzero(a)].sum() + np.where(a, a, 2.0) + a * np.logical_and(a, a) * np.logical_or(a,
        0), A),
    "places": (lambda np, a: a[tuple(np.argwhere(a)[0])] * a.ravel()[np.flatnonzero(a)].sum() *
        np.count_nonzero(a) * np.size(a) + np.shape(a)[0] * np.ndim(a), A),
    "close": (lambda np, a: a * np.allclose(a, a) * np.isclose(a, 1.0) + a * np.array_equal(a, a),
        A),
    "infinite": (lambda np, a: np.where(np.isinf(a) | np.isnan(a) | np.signbit(a), a, 2 * a), A),
    "with integers": (lambda np, a: np.hstack([a, AT[:3, None]]) * np.append(1, AT).sum(), A),
    "moved": (lambda np, a: a.T.reshape(2, -1)[:, ::-1].swapaxes(0, 1).copy().ravel()[1:-1], A),
    "stacked": (lambda np, a, b: np.concatenate([np.stack((a, b)), np.ones((1, 3, 4))]) *
        np.vstack([a, 2.5 * b])[:3], A, B),
    "padded": (lambda np, c: np.pad(c, ((0, 0), (1, 2), (1, 0))) + np.pad(c, ((0, 0), (1, 2), (1,
        0)), "constant", constant_values=3), CUBE),
    "repeated": (lambda np, a: np.repeat(a, 2, 0) + np.tile(a, (2, 1)) + a[:1].repeat(6, axis=0),
        A),
    "diagonals": (lambda np, a: np.diag(a[0]) * np.tril(a[[0, 1, 2, 0]]) + np.diagonal(a).sum(), A),
    "flipped": (lambda np, a: np.flip(a, 1) + np.roll(a, 1, 0) + np.expand_dims(a, 1)[:, 0] +
        np.rot90(a, 2), A),
    "split": (lambda np, c: np.split(c, 3, 1)[0] * np.squeeze(c[:, :1], 1)[:, None] + np.moveaxis(c,
        0, 1)[:1] + c.transpose(0, 2, 1)[:, :1, :1], CUBE),
    "made": (lambda np, a: np.zeros_like(a) + np.eye(3, 4) * a + np.full_like(a, 3) + np.full(4,
        0.7) * a + np.array([1.0, 2, 3, 4]) * np.asarray(a) + np.array([[a[0, 0], 1], [2,
        3.5]]).sum() * a, A),
    "converted": (lambda np, a: a.astype(float) * (a > 0).astype(int) *
        a.astype(np.float32).shape[0], A),
}  # fmt: skip


def run(field, function, given):
    """Run a function on exact numbers, and give their directions and its result."""
    table, entered, directions = Table(field), [], []
    for x in given:
        directions.append(field.direction(x.shape))
        numbers = Numbers(field, x, field.draw(x), directions[-1])
        entered.append(ExactArray(table, table.write(numbers)))
    with np.errstate(all="ignore"):
        return directions, function(numpy_for(table), *entered).numbers


@pytest.mark.parametrize("name", SHOWN)
def test_a_function_has_the_value_and_the_derivative_of_floats(name):
    function, *given = SHOWN[name]
    check_on_reals(partial(function, np), given, *run(Reals(1), function, given))


@pytest.mark.parametrize("name", SHOWN)
def test_a_function_has_the_shadows_of_floats_in_the_field(name):
    function, *given = SHOWN[name]
    check_in_the_field(partial(function, np), given, run(Field(1), function, given)[1])


class Noting(dict):
    """Rules that note which are asked for."""

    def __init__(self, rules):
        super().__init__(rules)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


# Numpy has them under another name, or scipy has them.
ELSEWHERE = {"true_divide", "around", "erf", "expit"}


def test_each_rule_is_held_against_floats(monkeypatch):
    noting = Noting(FUNCTIONS)
    monkeypatch.setattr(arrays, "FUNCTIONS", noting)
    for function, *given in SHOWN.values():
        run(Reals(1), function, given)
    assert FUNCTIONS.keys() - noting.names == ELSEWHERE


def affine_forward(x, w, b):
    out = np.zeros((x.shape[0], w.shape[1]))
    for n in range(len(x)):
        out[n] = x[n] @ w + b
    return out, (x, w)


def affine_backward(dout, cache, times=1.0):
    x, w = cache
    return dout @ w.T * times, x.T @ dout, dout.sum(axis=0)


def softmax_loss(x, y, times=1.0):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    dx = p.copy()
    dx[range(len(x)), y] -= times
    return -np.log(p[np.arange(len(x)), y]).mean(), dx / len(x)


def softmax_of(**options):
    return from_numpy(softmax_loss, y=np.array([0, 2, 1, 1, 0]), **options)


X, PARAMS = normal(5, 3), (normal(3, 4, seed=1), normal(4, seed=2))


def test_a_pair_of_functions_is_proven():
    verdict = prove(from_numpy(affine_forward, affine_backward), PARAMS, X)
    assert isinstance(verdict, Proof)
    assert verdict.leaves == ("dparams.0", "dparams.1", "dx")
    assert verdict.assumed == ()


def test_a_function_that_returns_its_gradient_is_proven():
    assert isinstance(prove(softmax_of(), (), X), Proof)


def test_an_array_that_is_an_option_is_exact():
    def weighted(x, w):
        return (x * (w / 7)).sum(), np.ones((5, 1)) * ((w + 1) / 7 - 1 / 7)

    verdict = prove(from_numpy(weighted, w=A[0, 1:]), (), X)
    assert isinstance(verdict, Proof), verdict


@pytest.mark.full(but=("[1e-14]",))
@pytest.mark.parametrize("size", [1e-6, 1e-10, 1e-14])
def test_an_error_of_any_size_is_refused(size):
    def backward(dout, cache):
        return affine_backward(dout, cache, 1 + size)

    verdict = prove(from_numpy(affine_forward, backward), PARAMS, X)
    assert isinstance(verdict, Refutation)
    assert verdict.leaf == "dx"
    assert isinstance(prove(softmax_of(times=1 + size), (), X), Refutation)


def test_a_gradient_of_zeros_is_refused_and_one_that_is_doubled_is_told():
    def square(x):
        return x * x, x

    zeros = prove(from_numpy(square, lambda dout, x: np.zeros_like(x)), (), X)
    assert isinstance(zeros, Refutation)
    doubled = prove(from_numpy(square, lambda dout, x: 4 * x * dout), (), X)
    assert (doubled.leaf, doubled.times) == ("dx", 2)


def test_a_layer_that_leaves_torch_by_itself_is_not_proven():
    layer = lf.Layer(
        "mine()", lambda params, x: (torch.as_tensor(x.numpy() ** 2), x),
        lambda params, x, g: (torch.zeros_like(x), ()),
    )  # fmt: skip
    assert isinstance(prove(layer, (), X), Undecided)


def test_numpy_is_the_modules_own_again():
    prove(from_numpy(affine_forward, affine_backward), PARAMS, X)
    assert affine_forward.__globals__["np"] is np


def test_what_has_no_rule_is_said():
    def inverse(x):
        return np.linalg.inv(x), x

    verdict = prove(from_numpy(inverse, lambda dout, x: dout), (), normal(3, 3))
    assert "inv has no rule" in verdict.reason
    viewed = prove(from_numpy(lambda x: (x.view(), x), lambda dout, x: dout), (), X)
    assert "has no view" in viewed.reason
    table = Table(Field(1))
    x = ExactArray(table, table.write(Numbers(table.field, A, table.field.draw(A), 0 * MASK + 1)))
    with pytest.raises(MissingError, match="made before"):
        np.zeros((3, 4))[...] = x
    assert_says("MissingError: made before", np.add, x, 1, out=np.zeros((3, 4)))
    assert_says("MissingError: as it is called", np.log, x, where=MASK)
    assert_says("MissingError: matrices", np.linalg.norm, x, 2)
    assert_says("MissingError: np.pad that computes", np.pad, x, 1, "mean")
    assert_says("AttributeError: no tofile", getattr, x, "tofile")
    with pytest.raises(TypeError, match="NoneType"):
        x[0, 0] + None
    assert table.field.notes == set()
    assert float(x[0, 0]) == A[0, 0]
    assert table.field.notes == {READ}
    np.argmax(
        numpy_for(table).array([x[0, 0], x[0, 0] * 1.0, x[0, 1], x[0, 0] + x[1, 1] - A[1, 1]])
    )
    assert TIE in table.field.notes


@pytest.mark.full(but=("affine",))
@pytest.mark.parametrize("submission", loops.RIGHT, ids=str)
def test_right_code_in_loops_is_proven(submission):
    verdict = prove(submission.layer, submission.params, submission.x)
    assert isinstance(verdict, Proof), str(verdict)


@pytest.mark.full(but=("affine",))
@pytest.mark.parametrize("submission", loops.WRONG, ids=str)
def test_a_mistake_in_loops_is_refused(submission):
    assert isinstance(prove(submission.layer, submission.params, submission.x), Refutation)


ALONE = """
import sys
import numpy as np
from lincoln_fn.testing.exact.arrays import ExactArray
from lincoln_fn.testing.exact.field import Field
from lincoln_fn.testing.exact.numbers import Numbers, Table
field = Field(1)
table = Table(field)
x = ExactArray(table, table.write(Numbers(field, np.ones(3), np.arange(1, 4), np.ones(3, int))))
assert np.exp(x * x).numbers.tangent.shape == (3,)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "attrs", "optree"}))
print(sorted(name for name in sys.modules if name.startswith("lincoln_fn.")))
"""


def test_numpys_exact_numbers_need_neither_torch_nor_the_rest(tmp_path):
    package = tmp_path / "lincoln_fn/testing/exact"
    package.mkdir(parents=True)
    for name in ("field", "numbers", "rules", "arrays"):
        (package / f"{name}.py").write_text(Path(arrays.__file__).with_stem(name).read_text())
    for folder in (package, *package.parents[:2]):
        (folder / "__init__.py").touch()
    command = [sys.executable, "-P", "-c", ALONE]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    torch_found, ours = done.stdout.splitlines()
    assert torch_found == "[]"
    exact = "lincoln_fn.testing.exact"
    assert all(name.startswith(exact) or exact.startswith(name) for name in eval(ours))
