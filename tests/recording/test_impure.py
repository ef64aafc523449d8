"""Functions that are not pure: each gives the bits of Python's run, and says why it stays there."""

import random
import types
from collections import deque
from itertools import count

import numpy as np
import pytest
import torch

import lincoln_fn as lf

SETTINGS = types.ModuleType("settings")
SETTINGS.factor = 1.0
COUNT, SCALE, LOG = 0, torch.ones(1), []
NUMBERS = np.random.default_rng(0)


def a_global_counter(x):
    global COUNT
    COUNT += 1
    return x * COUNT


def a_late_counter(x):
    global COUNT
    COUNT += 1
    return x * 2 if COUNT > 5 else x


def counter_in_a_closure():
    steps = 0

    def function(x):
        nonlocal steps
        steps += 1
        return x * 2 if steps > 5 else x

    return function


def counter_in(steps):
    """Count in a list; large numbers are new objects, at places of former ones."""
    most = steps[0] + 5

    def function(x):
        steps[0] += 1
        return x * 2 if steps[0] > most else x

    return function


def an_iterator():
    numbers = count()
    return lambda x: x * next(numbers)


class OfItsClass:
    steps = 0

    def __call__(self, x):
        type(self).steps += 1
        return x * 2 if type(self).steps > 5 else x


class Counter:
    def __init__(self):
        self.steps = 0

    def __call__(self, x):
        self.steps += 1
        return x * 2 if self.steps > 5 else x


def a_default(x, steps=[0]):  # noqa: B006  a counter, as it should not be
    steps[0] += 1
    return x * steps[0]


def an_attribute_of_a_function(x):
    an_attribute_of_a_function.steps += 1
    return x * 2 if an_attribute_of_a_function.steps > 5 else x


def a_list_of_what_was_seen(x):
    LOG.append(x.shape)
    return x * len(LOG)


def it_prints(x):
    print("called")
    return x * 2


FUNCTIONS = {
    "pythons_random": lambda x: x * random.random(),
    "a_branch_by_chance": lambda x: x * 2 if random.random() < 0.3 else x,
    "numpys_random": lambda x: x * float(np.random.rand()),  # noqa: NPY002  as users do
    "a_generator": lambda x: x * float(NUMBERS.random()),
    "torchs_random": lambda x: x + torch.rand(3),
    "a_dropout": lambda x: torch.nn.functional.dropout(x, 0.5),
    "a_number_that_is_used": lambda x: x * x.sum().item(),
    "a_branch_by_value": lambda x: x * 2 if x.sum() > 4 else -x,
    "a_branch_by_item": lambda x: x * 2 if x.sum().item() > 4 else -x,
    "numpy_of_a_tensor": lambda x: x * float(x.numpy().sum()),
    "a_list_of_numbers": lambda x: x * sum(x.tolist()),
    "an_array_protocol": lambda x: x * float(np.asarray(x).max()),
    "numbers_by_their_count": lambda x: x[x > 1].sum() * x,
    "a_function_of_torch_func": lambda x: torch.func.grad(lambda x: (x**3).sum())(x),
    **{
        f.__name__: f
        for f in (
            a_global_counter, a_late_counter, a_default, an_attribute_of_a_function,
            a_list_of_what_was_seen, it_prints,
        )
    },
}  # fmt: skip
# Those that are made anew, with what they hold.
MADE = {
    **{name: lambda f=f: f for name, f in FUNCTIONS.items()},
    "counter_in_a_closure": counter_in_a_closure, "counter_in_a_list": lambda: counter_in([0]),
    "counter_in_a_deque": lambda: counter_in(deque([0])),
    "a_large_counter_in_a_list": lambda: counter_in([1000]), "of_its_class": OfItsClass,
    "an_iterator": an_iterator, "an_object": Counter, "a_method": lambda: Counter().__call__,
}  # fmt: skip


def start_again():
    """Put all that the functions change back."""
    global COUNT, NUMBERS
    COUNT, NUMBERS, an_attribute_of_a_function.steps = 0, np.random.default_rng(0), 0
    OfItsClass.steps = 0
    LOG.clear()
    a_default.__defaults__[0][0] = 0
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the generator that a user may take
    torch.manual_seed(0)


def results(function, xs):
    start_again()
    return [function(x) for x in xs]


@pytest.mark.parametrize("name", MADE)
def test_the_bits_are_those_of_the_function(name, capsys):
    xs = [torch.full((3,), 0.5 + i / 4) for i in range(12)]
    plain = results(MADE[name](), xs)
    printed = capsys.readouterr().out
    given = results(lf.recorded(MADE[name]()), xs)
    assert [g.tolist() for g in given] == [p.tolist() for p in plain]
    assert capsys.readouterr().out == printed


NOT_OF_A_KEY = "draws random numbers that are not from a key"
REASONS = {
    **dict.fromkeys(("pythons_random", "numpys_random", "a_generator"), "uses random"),
    **dict.fromkeys(("torchs_random", "a_dropout"), NOT_OF_A_KEY),
    "a_global_counter": "changes COUNT", "counter_in_a_list": "changes steps",
    "an_iterator": "reads numbers", "it_prints": "uses print", "numpy_of_a_tensor": "numpy",
}  # fmt: skip


@pytest.mark.parametrize(("name", "reason"), [*REASONS.items()])
def test_one_line_of_the_log_says_why(name, reason, logged):
    results(lf.recorded(MADE[name]()), [torch.ones(3) + i for i in range(12)])
    (line,) = logged
    assert reason in line
    assert f"{__file__}:" in line


def test_a_write_into_an_argument_stays_with_python():
    def function(x, y):
        return x.add_(y)

    run, x = lf.recorded(function), torch.zeros(2)
    for _ in range(5):
        run(x, torch.ones(2))
    assert x.tolist() == [5, 5]


class Constants:
    factor = 1.0


def changed_by(change):
    """Give what a function returns before and after something beside its arguments has changed."""
    held = types.SimpleNamespace(scale=torch.ones(1), tensor=torch.ones(1))

    def function(x):
        return x * held.scale * held.tensor * SCALE * SETTINGS.factor * Constants.factor

    run, x = lf.recorded(function), torch.arange(3.0)
    before = [run(x).tolist() for _ in range(4)]
    change(held)
    return before, [run(x).tolist() for _ in range(4)]


CHANGES = [
    lambda held: setattr(held, "scale", torch.full((1,), 2.0)),
    lambda held: held.tensor.mul_(2),
    lambda held: SCALE.mul_(2),
    lambda held: setattr(SETTINGS, "factor", 2.0),
    lambda held: setattr(Constants, "factor", 2.0),
    lambda held: globals().update(SCALE=torch.full((1,), 2.0)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_function_reads_may_change(change, monkeypatch):
    monkeypatch.setitem(globals(), "SCALE", torch.ones(1))
    monkeypatch.setattr(SETTINGS, "factor", 1.0)
    monkeypatch.setattr(Constants, "factor", 1.0)
    before, after = changed_by(change)
    assert before == [[0, 1, 2]] * 4
    assert after == [[0, 2, 4]] * 4


def test_one_tensor_twice_is_not_two():
    def function(x, y):
        return x + 2 * y

    run = lf.recorded(function)
    x, y = torch.ones(2), torch.full((2,), 5.0)
    assert [run(x, x)[0].item() for _ in range(4)] == [3] * 4
    assert [run(x, y)[0].item() for _ in range(4)] == [11] * 4
    assert [run(y, y)[0].item() for _ in range(4)] == [15] * 4


def test_autograd_and_torch_func_see_the_function():
    run = lf.recorded(lambda x, y: (x * y).sum())
    x, y = torch.ones(2), torch.tensor([2.0, 3.0])
    for _ in range(4):
        run(x, y)
    assert torch.func.grad(run)(x, y).tolist() == [2, 3]
    wanted = x.clone().requires_grad_()
    run(wanted, y).backward()
    assert wanted.grad.tolist() == [2, 3]
    assert torch.func.vmap(run)(torch.ones(4, 2), torch.ones(4, 2)).tolist() == [2] * 4
    assert run(x.to("meta"), y.to("meta")).is_meta
