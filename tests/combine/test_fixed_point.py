"""Fixed points of a cell, and their gradient by implicit differentiation."""

import pytest
import torch
from helpers import assert_says, begin, normal, same_bits, same_number
from helpers.compositions import forward_and_backward, peak_bytes, run
from helpers.loops import ROWS as X
from helpers.loops import STEP

import lincoln_fn as lf
from lincoln_fn.combine.fixed_point import Solver


def expanding(norm):
    """Make a linear f whose plain iteration diverges: its eigenvalues are -norm and smaller."""
    matrix = torch.diag(-torch.linspace(0.1, norm, 4, dtype=torch.float64))
    return lambda z: z @ matrix + 1, 1 / (1 + torch.linspace(0.1, norm, 4, dtype=torch.float64))


def test_anderson_converges_where_plain_iteration_does_not():
    f, expected = expanding(1.5)
    z = torch.zeros(2, 4, dtype=torch.float64)
    given = Solver("anderson", 40, None, 5).solve(f, z, "here")
    assert same_number(given, expected.expand(2, 4))
    with pytest.raises(lf.LayerError, match=r"^here: expected to converge in 40 steps, got"):
        Solver("iteration", 40, None, 5).solve(f, z, "here")


@pytest.mark.parametrize(("method", "most"), [("anderson", 16), ("iteration", 70)])
def test_the_solver_ends_as_soon_as_it_has_converged(method, most):
    calls = []

    def f(z):
        calls.append(z)
        return torch.tanh(0.7 * z.flip(1) + torch.tensor([[1.0, -0.5], [0.3, 0.2]]))

    z = Solver(method, 100, 1e-5, 5).solve(f, torch.zeros(2, 2), "here")
    assert len(calls) < most
    assert same_number(f(z), z)


@pytest.mark.parametrize("solver", ["anderson", "iteration"])
def test_an_example_does_not_depend_on_the_others(solver):
    net = lf.fixed_point(lf.rnn_cell(4), shape=(4,), solver=solver, max_steps=200)
    params, z, cache, g = run(net, X, torch.float64)
    dx = net.input_grad(params, cache, g)
    # One example that is solved at once, beside others that are not.
    for i in range(5):
        alone, of_alone = net.forward(params, X.double()[i : i + 1])
        assert same_number(alone[0], z[i])
        given = net.input_grad(params, of_alone, g[i : i + 1])
        assert same_number(given[0], dx[i])


def test_a_cell_that_does_not_converge_is_no_error_where_each_step_is_taken():
    cell = lf.rnn_cell(4, weight_init=lf.initializers.normal(5.0))
    net = lf.fixed_point(cell, shape=(4,), tol=0)
    assert net.predict(net.init(lf.Key(0), X), X).isfinite().all()


def test_a_backward_pass_that_does_not_converge_says_so():
    # From z = 0, where tanh'(0) = 1, forward needs no step; backward meets J = -3.
    params = lf.layers.dense.Params(torch.diag(torch.tensor([-3.0, -3.0])), None)
    cell = lf.serial(lf.select(1), lf.dense(2, bias=False), lf.tanh())
    net = lf.fixed_point(cell, solver="iteration")
    x = torch.zeros(3, 2)
    z, cache = net.forward(((), params, ()), x)
    assert not z.any()
    with pytest.raises(lf.LayerError, match="backward: expected to converge in 40 steps"):
        net.backward(((), params, ()), cache, torch.ones(3, 2))


def test_the_cache_is_x_and_z():
    x, net = X, lf.fixed_point(STEP, shape=(4,))
    _, z, cache, _ = run(net, x)
    given, kept = cache.arrays
    assert given is x
    assert kept.shape == z.shape
    assert same_number(kept, z)


@pytest.mark.full(but=("[iteration]",))
@pytest.mark.parametrize("solver", ["anderson", "iteration"])
def test_memory_does_not_grow_with_the_steps_of_the_solver(solver):
    peaks = []
    for max_steps in (6, 30):
        net = lf.fixed_point(
            lf.rnn_cell(20), shape=(20,), solver=solver, max_steps=max_steps, tol=0, memory=2
        )
        params, _, _, g = run(net, normal(50, 3))
        peaks.append(peak_bytes(forward_and_backward, net, params, normal(50, 3), g))
    assert peaks[0] == peaks[1]


def test_one_mask_is_drawn_for_all_steps_and_predict_draws_none():
    net = lf.fixed_point(STEP, shape=(4,))
    params, z, cache, _ = run(net, X)
    again, of_cell = STEP.forward(params, (X, z))
    assert same_number(again, z)
    assert same_bits(net.advance(params, cache), STEP.advance(params, of_cell))
    predicted = net.predict(params, X)
    assert same_number(STEP.predict(params, (X, predicted)), predicted)
    assert not same_number(predicted, z)


@pytest.mark.full
@pytest.mark.usefixtures("uncompiled")
def test_a_compiled_step_raises_the_error_of_the_step_itself():
    cell = lf.rnn_cell(4, weight_init=lf.initializers.normal(5.0))
    step, state = begin(lf.fixed_point(cell, shape=(4,), max_steps=3), X, lf.losses.mse())
    batch = X, torch.zeros(5, 4)
    assert_says("expected to converge in 3 steps", lf.compile(step), state, batch)
