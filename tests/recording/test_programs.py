"""Programs: what is left out, what is freed, and how they are compared."""

import gc

import torch
from helpers.programs import program_of
from torch.library import Library

import lincoln_fn as lf
from lincoln_fn.recording.program import by_overload, generate, same_bits, simplify
from lincoln_fn.recording.recorder import Recorder

X, Y = lf.keys.normal(lf.Key(0), (3, 4)), lf.keys.normal(lf.Key(1), (4, 5))


def names(program):
    return [str(op.overload).split(".")[1] for op in program.operations]


def test_what_leads_nowhere_is_left_out():
    def function(x, y):
        x.detach().exp()
        return (x.t().t() @ y.mT.mT,)

    program = program_of(function, X, Y)
    assert names(simplify(program)) == ["mm"]
    assert same_bits(generate(program)([X, Y])[0], X @ Y)


def test_what_is_asked_of_no_tensor_is_no_number_that_is_read():
    def function(x):
        x.mul_(2)
        return (x.to(torch.promote_types(x.dtype, torch.float64)),)

    x = X.clone()
    recorder = Recorder([x], donated=1)
    with recorder:
        outputs = function(x)
    assert names(recorder.program(outputs)) == ["mul_", "_to_copy"]
    assert recorder.problem is None


def test_a_complex_number_keeps_the_signs_of_zeros_and_infinity():
    z = torch.complex(X, X)
    for number in (complex(-0.0, 1), complex(1, -0.0), complex(float("inf"), 1)):
        program = program_of(lambda z, number=number: (torch.full_like(z, number),), z)
        assert same_bits(generate(program)([z])[0], torch.full_like(z, number))


def test_what_is_computed_several_times_is_computed_once():
    def function(x, y):
        return ((x @ y).exp() * (x @ y).exp().sum(0, keepdim=True) + x.mT.mT @ y,)

    program = program_of(function, X, Y)
    assert names(simplify(program)) == ["mm", "exp", "sum", "mul", "add"]
    assert same_bits(generate(program)([X, Y])[0], function(X, Y)[0])

    def other(x, state):
        before, after = x * 2, x * 2
        after.add_(1)
        sums = [state.sum(), state.add_(1).sum()]
        return before, after, x * 3, x * 3, sums[0] - sums[1], x + 0.0, x + -0.0

    program = program_of(lambda state, x: other(x, state), X.clone(), X, donated=1)
    assert len(simplify(program).operations) == len(program.operations)
    outputs = generate(program)([X.clone(), X])
    for given, wanted in zip(outputs, other(X, X.clone()), strict=True):
        assert same_bits(given, wanted)
    assert len({output.data_ptr() for output in outputs}) == 7


def test_what_is_returned_or_written_into_is_made_each_time():
    def function(x):
        zeros, total = torch.zeros(4), torch.tensor(0.0)
        total += x.sum()
        return torch.ones(2), zeros.add_(x[0]), total

    run = generate(program_of(function, X))
    first, second = run([X]), run([X])
    for one, other, wanted in zip(first, second, function(X), strict=True):
        assert same_bits(one, wanted)
        assert same_bits(other, wanted)
        assert one.data_ptr() != other.data_ptr()


def test_operations_in_place_keep_their_order():
    def function(x):
        y = x * 2
        before = y.sum()
        y[0].fill_(1)
        view = y[1]
        y.mul_(3)
        return before, view, y.sum()

    program = program_of(function, X)
    for choice in ({}, {"function_of": by_overload}):
        made = generate(program, **choice)([X])
        assert all(map(same_bits, made, function(X)))


def test_results_that_are_none_and_lists_of_tensors():
    def function(x, w):
        masks = [True, False, False]
        g = torch.ones(1, 2, 3)
        back = torch.ops.aten.convolution_backward(
            g, x, w, None, [1], [0], [1], False, [0], 1, masks
        )
        return (*torch.split(x, 2, 2), back[0])

    inputs = X.reshape(1, 3, 4), lf.keys.normal(lf.Key(2), (2, 3, 2))
    made = generate(program_of(function, *inputs))(inputs)
    assert all(map(same_bits, made, function(*inputs)))


def test_programs_are_compared_by_every_number():
    def function(factor, numbers):
        return lambda x: (x * factor + torch.tensor(numbers),)

    first = program_of(function(0.5, [1.0]), X)
    assert first.first_difference(program_of(function(0.5, [1.0]), X)) is None
    assert first.first_difference(program_of(function(0.25, [1.0]), X)) == 0
    assert first.first_difference(program_of(function(0.5, [-1.0]), X)) == 1
    zero, minus = (program_of(function(f, [1.0]), X) for f in (0.0, -0.0))
    assert zero.first_difference(minus) == 0
    whole, number = (program_of(function(f, [1.0]), X) for f in (1, True))
    assert whole.first_difference(number) == 0


def test_a_number_that_is_another_one_ends_the_program():
    def function(x):
        return (x / 2 if x.sum() > 0 else x * 2,)

    run = generate(program_of(function, X.abs()))
    assert same_bits(run([X.abs()])[0], X.abs() / 2)
    assert run([-X.abs()]) is None


def test_a_shape_that_is_another_one_ends_the_program():
    run = generate(program_of(lambda x: (x[x > 0],), X))
    assert same_bits(run([X])[0], X[X > 0])
    assert run([X.abs()]) is None


def test_no_tensor_lives_longer_than_in_pythons_run():
    library, counts = Library("lincoln_tests", "DEF"), []
    library.define("count(Tensor x) -> Tensor")

    def count(x):
        counts.append(sum(type(t) is torch.Tensor and len(t) == 1237 for t in _tensors()))
        return x + 1

    library.impl("count", count, "CPU")

    def function(x):
        for _ in range(6):
            x = torch.ops.lincoln_tests.count(x.sin())
        return (x.sum(),)

    x = torch.ones(1237)
    function(x)
    by_python = counts.copy()
    program = program_of(function, x)
    while_recorded = counts[6:]
    generate(program)([x])
    assert max(by_python) <= 3
    assert while_recorded == by_python
    assert all(ours <= pythons for ours, pythons in zip(counts[12:], by_python, strict=True))


def _tensors():
    return [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor) and thing.ndim]


def test_what_is_computed_again_to_save_memory_is_computed_again():
    block = lf.serial(lf.dense(64), lf.tanh(), lf.dense(64))
    net, x = lf.serial(*[lf.checkpointed(block)] * 3), torch.ones(40, 64)
    params = net.init(lf.Key(0), x)

    def function(x):
        y, cache = net.forward(params, x)
        return net.backward(params, cache, y)[0], y

    program = program_of(function, x)
    assert [names(made).count("tanh") for made in (program, simplify(program))] == [6, 6]
