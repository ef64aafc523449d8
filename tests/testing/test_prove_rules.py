"""The exact numbers: the field's arithmetic, and each rule against floats, value and tangent."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import normal, uniform
from helpers.reals import Reals, check_in_the_field, check_on_reals
from torch.nn import functional as F

from lincoln_fn.testing.exact import field, operations, rules
from lincoln_fn.testing.exact.field import Field, MissingError, P, Q, meaning
from lincoln_fn.testing.exact.numbers import Numbers

A, B = normal(3, 4).double(), normal(3, 4, seed=1).double()
POSITIVE = uniform(3, 4, low=0.5, high=3.0).double()
MATRIX, VECTOR = normal(4, 5, seed=2).double(), normal(4, seed=3).double()
BATCH = normal(2, 3, 4, seed=4).double()
SQUARES = MATRIX.expand(2, 4, 5) * torch.tensor([[[1.0]], [[2.0]]])
IMAGE, KERNEL = normal(2, 4, 6, 5).double(), normal(6, 2, 3, 2, seed=1).double()
AT = torch.tensor([[2, 0, 1, 0], [1, 1, 2, 0], [0, 2, 2, 1]])
MASK = A > 0

# By what is shown: a function of torch, and its arguments. Each operation of the rules is here.
RULES = {
    "add": (lambda a, b: torch.add(a, b, alpha=0.3) + 2, A, B),
    "sub": (lambda a, b: torch.sub(a, b, alpha=0.3) - 0.7, A, B),
    "rsub": (lambda a: 1 - a, A),
    "mul": (lambda a, b: a * b * 0.3, A, B),
    "div": (lambda a, b: a / b / 3, A, POSITIVE),
    "floor_divide": (lambda a, b: a - b * torch.div(a, b, rounding_mode="floor"), A, POSITIVE),
    "remainder": (lambda a: torch.remainder(a, 0.7), A),
    "powers": (lambda a: a**3 + a**-2 + a.square(), A),
    "roots": (lambda a: a**0.5 + a**-1.5 + a ** (1 / 3) + a**0.3, POSITIVE),
    "powers of tensors": (lambda a, b: a**b + 1.7**b, POSITIVE, B),
    "neg": (lambda a: -a, A),
    "reciprocal": (lambda a: 2 / a, A),
    "exp": (lambda a: torch.exp(a) + torch.expm1(a) + torch.exp2(a), A),
    "log": (lambda a: a.log() + a.log1p() + a.log2() + a.log10(), POSITIVE),
    "sqrt": (lambda a: a.sqrt() + a.rsqrt(), POSITIVE),
    "sigmoid": (torch.sigmoid, A),
    "tanh": (torch.tanh, A),
    "erf": (lambda a: torch.erf(a) + 2 * torch.erfc(a), A),
    "sin": (lambda a: torch.sin(a) + 2 * torch.cos(a) + torch.tan(a), A),
    "abs": (lambda a: a.abs() + a * a.sign() + a * a.sgn(), A),
    "relu": (torch.relu, A),
    "clamp": (lambda a, b: a.clamp(-0.5, 0.3) + a.clamp(max=b) + a.clamp(min=0.1), A, B),
    "clamp_min": (lambda a: torch.clamp_min(a, 0) + torch.clamp_max(a, 0.2), A),
    "maximum": (lambda a, b: torch.maximum(a, b) + 2 * torch.minimum(a, b), A, B),
    "steps": (lambda a: a * (a.floor() + 2 * a.ceil() + 3 * a.round() + 5 * a.trunc()), 3 * A),
    "xlogy": (lambda a, b: torch.xlogy(a.relu(), b), A, POSITIVE),
    "logaddexp": (torch.logaddexp, A, B),
    "nan_to_num": (lambda a: torch.nan_to_num(torch.where(MASK, a, torch.inf), posinf=2.0), A),
    "sum": (lambda a: a.sum(1, keepdim=True) + a.sum() + a.sum((0, 1)), A),
    "mean": (lambda a: a.mean(0) + a.mean(), A),
    "prod": (lambda a: a.prod(1) + a.prod(0, keepdim=True)[..., :3] + a.prod(), A),
    "var": (lambda a: a.var(1) + a.std(1, correction=0) + torch.var_mean(a, 1)[1], A),
    "norms": (lambda a: sum(torch.linalg.vector_norm(a, p, 1) for p in (1, 2, 3.5, torch.inf)), A),
    "cumsum": (lambda a: a.cumsum(1) + a.cumprod(0), A),
    "softmax": (lambda a: a.softmax(1) + a.log_softmax(0) + a.logsumexp(1, keepdim=True), A),
    "softplus": (F.softplus, 4 * A),
    "matmul": (lambda a, m, v: a @ m + (a @ v)[:, None] + v.dot(v), A, MATRIX, VECTOR),
    "bmm": (lambda b, m: b @ m, BATCH, SQUARES),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.3, alpha=0.7), A @ MATRIX, A, MATRIX),
    "baddbmm": (lambda c, b, m: torch.baddbmm(c, b, m), BATCH @ MATRIX, BATCH, SQUARES),
    "addmv": (lambda c, a, v: torch.addmv(c, a, v), A[:, 0], A, VECTOR),
    "addcmul": (lambda a, b: a.addcmul(a, b, value=0.3) + a.addcdiv(a, b), A, POSITIVE),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.3) + torch.lerp(a, b, a), A, B),
    "max": (lambda a: a.amax((0, 1)) + a.max(1).values + a.min() + a.max() + a.amin(0)[:3], A),
    "aminmax": (lambda a: torch.stack(torch.aminmax(a)), A),
    "order": (lambda a: a.sort(1).values + a.topk(4, 1).values * 2 + a.cummax(0).values, A),
    "chosen": (lambda a: a.gather(1, a.argmax(1)[:, None]) + a.kthvalue(2, 1)[0][:, None], A),
    "max_pool": (lambda x: F.max_pool2d(x, 2) + F.adaptive_max_pool2d(x, (3, 2)), IMAGE),
    "asked": (lambda a, b: torch.where((a < b) | (a >= 1.5) | (a == b), a, b) * a.isfinite(), A, B),
    "questions": (lambda a, b: a * (a != b) * (a <= b) * ~a.isinf() * ~a.isnan() * ~a.isposinf() +
        b * (a > 0) * ~b.signbit() * ~a.isneginf() * ~a.logical_not() + a[a.nonzero()[:, 0]].sum(0),
        A, B),
    "index_add": (lambda a, b: a.index_add(1, AT[0], b).scatter_add(0, AT, b), A, B),
    "index_put": (lambda a, b: a.index_put((AT[0], AT[1]), b[0], accumulate=True), A, B),
    "written": (lambda a, b: written(a.clone(), b), A, B),
    "moved": (lambda a: a.mT.reshape(2, 6).flip(1).roll(1, 0)[:, 1:].tril(1).repeat(2, 1), A),
    "padded": (lambda x: F.pad(x, (1, 2), value=0.3) + F.pad(x, (1, 2, 0, 0), "reflect"), IMAGE),
    "made": (lambda a: torch.cat([a + 1, a.new_full((1, 4), 0.3)]) + torch.eye(4).double(), A),
    "conv": (lambda x, w: F.conv2d(x, w, None, (1, 2), (2, 1), (2, 1), 2), IMAGE, KERNEL),
    "conv_transpose": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, (3, 2), (1, 0), (1, 0), 2, (1, 2)),
        normal(2, 6, 3, 4).double(), KERNEL, VECTOR),
    "converted": (lambda a: a.to(torch.float64, copy=True) * torch.tensor(3) * AT.double(), A),
}  # fmt: skip


def written(a, b):
    a[0] = b[1]
    a[1:, 2] = 0.5
    a.mul_(b)
    a[MASK] = b[MASK]
    return a.masked_fill_(b > 1, 0.3).scatter(1, AT[:, :1], 0.7)


class Noting(operations.Space):
    """A space that notes the operations that are run in it."""

    names = set()  # noqa: RUF012  # of all spaces

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__.rstrip("_"))
        return super().__torch_dispatch__(func, types, args, kwargs)


def run(field, function, arguments):
    """Run a function of torch on exact numbers, and give their directions and its result."""
    place = Noting(field)
    entered, directions = [], []
    for x in arguments:
        directions.append(field.direction(tuple(x.shape)))
        entered.append(place.moved(place.enter(x, field.draw(x.numpy())), directions[-1]))
    with torch.no_grad(), np.errstate(all="ignore"), place:
        made = function(*entered)
    return directions, place.numbers(made)


def check(name):
    function, *arguments = RULES[name]
    directions, made = run(Reals(1), function, arguments)
    check_on_reals(function, arguments, [*map(torch.from_numpy, directions)], made)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_the_value_and_the_derivative_of_floats(name):
    check(name)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_the_shadows_of_floats_in_the_field(name):
    function, *arguments = RULES[name]
    check_in_the_field(function, arguments, run(Field(1), function, arguments)[1])


@functools.cache
def uses():
    """By operation: what shows it."""
    found = {}
    for name, (function, *arguments) in RULES.items():
        Noting.names = set()
        run(Reals(1), function, arguments)
        for operation in Noting.names:
            found.setdefault(operation, []).append(name)
    return found


# Others have these rules under two names, or are constant.
SAME = {"norm", "square", "vdot"}
CONSTANT = {"floor", "ceil", "round", "trunc", "sign", "sgn"}


def test_each_rule_is_held_against_floats():
    assert not (rules.RULES | rules.QUESTIONS).keys() - SAME - uses().keys()


@pytest.mark.parametrize("operation", sorted(rules.RULES.keys() - SAME - CONSTANT))
def test_a_wrong_tangent_is_seen(operation, monkeypatch):
    right = rules.RULES[operation]

    def wrong(*arguments, **options):
        made = right(*arguments, **options)
        for each in made if isinstance(made, tuple) else (made,):
            each.tangent = each.tangent * (1 + 1e-4)
        return made

    monkeypatch.setitem(rules.RULES, operation, wrong)
    assert any(map(is_refused, uses()[operation]))


def is_refused(name):
    try:
        check(name)
    except AssertionError:
        return True
    return False


FIELD = Field(7)
ANY = np.random.default_rng(0).integers(1, P, 200)


def test_the_prime_is_as_the_arithmetic_needs_it():
    def is_prime(n):
        return all(n % d for d in range(2, math.isqrt(n) + 1))

    assert (is_prime(P), is_prime(Q), P, P % 4) == (True, True, 2 * Q + 1, 3)
    small = [p for p in range(2, 32) if is_prime(p)]
    assert all(pow(p, Q, P) == 1 for p in small)


def test_the_field_computes_as_integers_do():
    assert (ANY * FIELD.inverse(ANY) % P == 1).all()
    assert FIELD.power(ANY, 77).tolist() == [pow(int(a), 77, P) for a in ANY]
    assert FIELD.power(ANY, ANY[::-1]).tolist() == [
        pow(int(a), int(n), P) for a, n in zip(ANY, ANY[::-1], strict=True)
    ]
    a, b = ANY[:120].reshape(8, 15), ANY[80:].reshape(15, 8)
    assert FIELD.bilinear(np.matmul, a, b).tolist() == [
        [sum(int(s) * int(t) for s, t in zip(row, column, strict=True)) % P for column in b.T]
        for row in a
    ]
    assert (FIELD.rational(FIELD.rational(ANY, 1, 3), 3, 1) == ANY).all()


def test_a_square_has_its_root_and_another_number_none():
    squares = ANY * ANY % P
    root, slope = FIELD.root(squares)
    assert (root * root % P == squares).all()
    assert (2 * root * slope % P == 1).all()
    assert (FIELD.root(squares[:100] * squares[100:] % P)[0] == root[:100] * root[100:] % P).all()
    other = Field(8)
    other.root(P - squares)
    assert other.notes == {field.FREE}


def test_of_a_square_the_root_has_the_sign_of_the_float():
    shadow = np.array([2.0, -3.0, 0.5, -0.1] * 50)
    drawn = FIELD.draw(shadow)
    assert (FIELD.root(drawn * drawn % P)[0] == np.where(shadow < 0, P - drawn, drawn)).all()


def test_a_power_of_a_number_without_a_root_says_so():
    for exponent, is_noted in ((2 / 3, True), (1.5, True), (1 / 3, False), (2, False)):
        place = Field(8)
        rules.power(Numbers(place, np.ones(200), P - squares(), np.zeros(200, int)), exponent)
        assert place.notes == ({field.FREE} if is_noted else set())


def squares():
    return ANY * ANY % P


def exact(values):
    values = np.asarray(values)
    return Numbers(FIELD, np.ones(values.shape), values, np.zeros_like(values))


def test_the_laws_of_exp_log_and_the_circle():
    a, b = exact(ANY[:100]), exact(ANY[100:])
    e = [rules.exp(z).value for z in (a, b, a + b, a - b, a * 3, -a, rules.log(a) + b)]
    assert (e[2] == e[0] * e[1] % P).all()
    assert (e[3] * e[1] % P == e[0]).all()
    assert (e[4] == e[0] * e[0] % P * e[0] % P).all()
    assert (e[5] * e[0] % P == 1).all()
    assert (e[6] == a.value * e[1] % P).all()
    total = rules.exp(a.sum((0,))).value
    assert total == math.prod(e[0].tolist()) % P
    c, s = rules.rotation(a)
    assert ((c * c + s * s).value == 1).all()
    assert (rules.erf(-a).value == (-rules.erf(a)).value).all()


@pytest.mark.parametrize(("c", "meant"), [
    (3.0, (3, 1, 1, 0)), (1e300, (int(1e300), 1, 1, 0)), (0.044715, (44715, 10**6, 1, 0)),
    (1e-5, (1, 10**5, 1, 0)), (0.1 + 0.2, (3, 10, 1, 0)), (1 / 30000, (1, 30000, 1, 0)),
    (1 - 0.999, (1, 1000, 1, 0)), (2 * (1 - 0.999), (1, 500, 1, 0)), (0.9 - 1, (-1, 10, 1, 0)),
    (-1 / 7, (-1, 7, 1, 0)), (math.sqrt(2), (1, 1, 2, 0)), (-1 / math.sqrt(6), (-1, 6, 6, 0)),
    (math.pi, (1, 1, 1, 2)), (2 / math.sqrt(math.pi), (1, 1, 4, -1)),
    (math.sqrt(8 / math.pi), (1, 1, 8, -1)),
    (1.0507009873554805, (*Fraction(1.0507009873554805).as_integer_ratio(), 1, 0)),
])  # fmt: skip
def test_a_float_is_read_as_it_was_meant(c, meant):
    over, under, radicand, of_pi = meaning(c)
    wanted, *rest = Fraction(*meant[:2]), *meant[2:]
    assert (Fraction(over, under), radicand, of_pi) == (wanted, *rest)


def test_exact_numbers_are_refused_where_they_have_no_value():
    place = operations.Space(Field(1))
    x = place.enter(A, FIELD.draw(A.numpy()))
    with pytest.raises(MissingError, match="outside of their space"):
        x + 1
    with place, pytest.raises(MissingError, match="digamma"):
        torch.digamma(x)
    with place, pytest.raises(MissingError, match="made before"):
        A.copy_(x)
