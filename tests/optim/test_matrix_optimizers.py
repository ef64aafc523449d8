"""LAMB, schedule_free, Shampoo, SOAP and GaLore are their papers' formulas, and compile."""

import pytest
import torch
from helpers import assert_refused, assert_says, begin, same_number
from helpers.optimizers import gradient, steps_of

import lincoln_fn as lf
from lincoln_fn import distributed, keys, optim, schedules
from lincoln_fn.optim import adam, adamw, chain, galore, lamb, schedule_free, sgd, shampoo, soap

STEPS = 7
MATRIX = keys.normal(lf.Key(0), (4, 4), dtype=torch.float64)
TENSOR = keys.normal(lf.Key(1), (3, 2, 4), dtype=torch.float64)


def power(matrix, exponent):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.mT


def eye(n, scale=1.0):
    return scale * torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("maximize", [False, True])
def test_lamb_is_algorithm_2_of_its_paper(maximize):
    lr, (b1, b2), eps, decay = 0.05, (0.8, 0.95), 1e-3, 0.2
    given, _ = steps_of(lamb(lr, (b1, b2), eps, decay, maximize=maximize), TENSOR, STEPS)
    p, m, v = TENSOR, 0.0, 0.0
    for t in range(STEPS):
        g = (-1) ** maximize * gradient(p, t)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        r = (m / (1 - b1 ** (t + 1))) / ((v / (1 - b2 ** (t + 1))).sqrt() + eps) + decay * p
        p = p - lr * p.norm() / r.norm() * r
    assert same_number(given, p)
    zeros = torch.zeros(3)
    moved, _ = lamb(0.5).update(zeros, torch.ones(3), lamb(0.5).init(zeros))
    assert same_number(moved, torch.full((3,), -0.5), error=1e-5)  # a factor of 1; eps counts


@pytest.mark.parametrize("warmup", [0, 4])
def test_schedule_free_averages_the_inner_steps(warmup):
    b, lr = 0.8, schedules.wsd(0.1, warmup, 99, 1)
    inner = adamw(lr, (0.0, 0.9), weight_decay=0.3)
    optimizer = chain(schedule_free(b, lr), inner)
    y, state = TENSOR, optimizer.init(TENSOR)
    z, x, kept, total = TENSOR, TENSOR, inner.init(TENSOR), 0.0
    for t in range(STEPS):
        step = inner.update((1 - b) * z + b * x, gradient((1 - b) * z + b * x, t), kept)
        z, kept = z + (step[0] - ((1 - b) * z + b * x)), step[1]
        weight = lr(t).item() ** 2
        total += weight
        x = x + weight / total * (z - x)
        y, state = optimizer.update(y, gradient(y, t), state)
    assert same_number((y, optim.schedule_free_params(state, y)), ((1 - b) * z + b * x, x))
    plain, other = steps_of(chain(schedule_free(b), sgd(0.1)), TENSOR, STEPS)
    weighted, _ = steps_of(chain(schedule_free(b, 0.3), sgd(0.1)), TENSOR, STEPS)
    assert same_number(plain, weighted)
    twice = chain(schedule_free(), schedule_free(), sgd()).init(plain)
    for several in ((other, other), twice):
        with pytest.raises(lf.LayerError, match="expected a state with one schedule_free, got 2"):
            optim.schedule_free_params(several, plain)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_shampoo_is_algorithms_1_and_2_of_its_paper(decay):
    lr, momentum, eps, share = 0.1, 0.5, 0.2, 1 - decay or 1.0
    optimizer = shampoo(lr, momentum, decay, eps=eps, every=3)
    given, _ = steps_of(optimizer, {"matrix": MATRIX, "tensor": TENSOR}, STEPS)
    for name, p, order in (("matrix", MATRIX, 4), ("tensor", TENSOR, 6)):
        sums, roots, b = [0.0] * p.ndim, [None] * p.ndim, 0.0
        for t in range(STEPS):
            g = u = gradient(p, t)
            for i, size in enumerate(p.shape):
                rows = g.transpose(0, i).reshape(size, -1)
                sums[i] = decay * sums[i] + share * rows @ rows.mT
                if t % 3 == 0:
                    roots[i] = power(sums[i] + eye(size, eps), -1 / order)
                u = torch.tensordot(u, roots[i], dims=([0], [0]))  # the axis becomes the last
            b = momentum * b + u
            p = p - lr * b
        assert same_number(given[name], p, error=1e-12), name
    # Of a vector, it is Adagrad of the full matrix. A long axis is left alone.
    vector, lonely = MATRIX[0], shampoo(0.1, 0.0, max_size=3)
    assert same_number(lonely.update(vector, vector, lonely.init(vector))[0], 0.9 * vector)


def test_soap_is_adam_in_the_eigenbasis():
    lr, b1, b2, eps, decay = 0.05, 0.9, 0.8, 1e-3, 0.2
    given, _ = steps_of(soap(lr, (b1, b2), eps, decay, every=3), MATRIX, STEPS)
    p, m, v, left, right = MATRIX, 0.0, 0.0, 0.0, 0.0
    for t in range(STEPS):
        g = gradient(p, t)
        left, right = b2 * left + (1 - b2) * g @ g.mT, b2 * right + (1 - b2) * g.mT @ g
        if t == 0:
            q_left, q_right = (torch.linalg.eigh(side)[1].flip(1) for side in (left, right))
            continue
        if t % 3 == 0:
            sort_left = (q_left.mT @ left @ q_left).diagonal().argsort(descending=True)
            sort_right = (q_right.mT @ right @ q_right).diagonal().argsort(descending=True)
            q_left = torch.linalg.qr(left @ q_left[:, sort_left])[0]
            q_right = torch.linalg.qr(right @ q_right[:, sort_right])[0]
            v = v[sort_left][:, sort_right]
        turned = q_left.mT @ g @ q_right
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * turned**2
        n = q_left.mT @ m @ q_right / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + eps)
        p = (1 - lr * decay) * p - lr * q_left @ n @ q_right.mT
    assert same_number(given, p, error=1e-11)


def test_soap_without_bases_is_adam_a_step_later():
    given, state = steps_of(soap(0.1, (0.9, 0.99), 1e-8, 0.0, max_size=1), MATRIX, STEPS)
    late = steps_of(adam(0.1, (0.9, 0.99)), MATRIX, STEPS - 1, lambda p, t: gradient(p, t + 1))
    assert same_number(given, late[0])
    assert state.kept.bases == (None, None)


def test_soap_trains_parameters_in_bfloat16():
    x = keys.normal(lf.Key(3), (32, 8)).bfloat16()
    batch = x, x[:, :1] * x[:, 1:2]
    net = lf.serial(lf.dense(16), lf.tanh(), lf.dense(1))
    records = [*lf.train(*begin(net, x, lf.losses.mse(), soap(3e-3)), [batch] * 8)]
    state, losses = records[-1][0], [record.loss for _, record in records]
    # The same full batch each time: the gradient is nearly 0 in most places of its basis.
    assert max(losses) == losses[0]
    assert losses[-1] < 0.97 * losses[0]
    kept = state.opt_state.kept[0].weight
    assert kept.m.dtype is kept.v.dtype is kept.products[0].dtype is torch.float32
    assert state.params[0].weight.dtype is torch.bfloat16


def test_galore_steps_within_the_subspace():
    wide, tall = keys.normal(lf.Key(3), (4, 6)).double(), keys.normal(lf.Key(4), (5, 3)).double()
    params = {"wide": wide, "tall": tall, "bias": MATRIX[0]}
    optimizer = chain(galore(2, every=2, scale=0.5), sgd(0.1, momentum=0.9))
    given, state = steps_of(optimizer, params, 3)
    kept = state.inner.momentum
    assert [kept[name].shape for name in params] == [(2, 6), (5, 2), (4,)]
    basis = state.subspaces["wide"].basis
    assert basis.untyped_storage().nbytes() == 8 * basis.numel()  # not the whole of U
    for name in ("wide", "tall"):
        p, b = params[name], 0.0
        for t in range(3):
            g = gradient(p, t)
            if t % 2 == 0:
                u, _, vh = torch.linalg.svd(g)
                project = u[:, :2] if name == "wide" else vh[:2].mT
            low = project.mT @ g if name == "wide" else g @ project
            b = 0.9 * b + low
            p = p - 0.5 * 0.1 * (project @ b if name == "wide" else b @ project.mT)
        assert same_number(given[name], p, error=1e-12)
    assert same_number(given["bias"], steps_of(sgd(0.1, momentum=0.9), MATRIX[0], 3)[0])
    assert_refused(
        "galore: expected at least one matrix, got shapes [(9,), (3,)]; give them to another "
        "optimizer by by_path",
        chain(galore(8), sgd()).init, {"bias": torch.ones(9), "scale": torch.ones(3)},
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", [shampoo(), soap(), chain(galore(1), sgd()), None], ids=str)
def test_a_loss_that_is_not_finite_is_named_before_a_matrix_is(optimizer):
    gradient = None if optimizer else lf.curvature.kfac(0.1)
    x = torch.ones(3, 3)
    step, state = begin(lf.dense(2), x, lf.losses.mse(), optimizer or sgd(), gradient=gradient)
    with pytest.raises(lf.NonFiniteError, match="step 1: x holds values that are not finite"):
        step(state, (torch.full_like(x, torch.inf), torch.ones(3, 2)))


def test_adafactor_keeps_few_numbers():
    state = optim.adafactor().init({"weight": torch.ones(512, 128), "bias": torch.ones(128)})
    assert sum(leaf.numel() for leaf in lf.tree.leaves(state.v)) == 512 + 128 + 128


def test_a_state_of_another_parameter_is_named():
    p = torch.ones(3, 4)
    for optimizer in (optim.adafactor(), shampoo(), soap(), chain(galore(2), sgd())):
        state = optimizer.init(torch.ones(5, 4))
        with pytest.raises(lf.LayerError) as error:
            optimizer.update(p, p, state)
        assert "expected a state of its parameter's shape (3, 4), got" in str(error.value)


# Every optimizer whose state has records, or whose work is due at some steps.
OPTIMIZERS = [
    optim.adafactor(0.1),
    lamb(0.1),
    soap(0.1, eps=1e-3, every=2),
    shampoo(0.1, every=2),
    chain(galore(2, every=2), schedule_free(0.8), adamw(0.1, (0.0, 0.9))),
]


@pytest.mark.full
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_compiled_update_is_the_update(optimizer):
    def step(state, grads):
        params, kept = optimizer.update(state[0], grads, state[1])
        return (params, kept), params["bias"].sum()

    params, compiled = {"weight": MATRIX, "bias": MATRIX[0].clone()}, lf.compile(step)
    state = again = params, optimizer.init(params)
    for t in range(4):
        grads = lf.tree.map(lambda p, t=t: gradient(p, t), state[0])
        state, _ = step(state, grads)
        again, _ = compiled(again, grads)
    assert same_number(again[0], state[0], error=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_what_is_not_elementwise_is_not_divided_among_processes(optimizer):
    with pytest.raises(lf.LayerError, match="sharded: expected an optimizer that updates each"):
        optim.sharded(optimizer, distributed.alone())
    optim.sharded(chain(schedule_free(), sgd()), distributed.alone())
    params = distributed.fully_sharded(lf.dense(4), distributed.alone()).init(
        lf.Key(0), torch.ones(1, 4)
    )
    assert_says("expected whole parameters, got slices of fully_shar", optimizer.init, params)


@pytest.mark.full
def test_eigenvectors_have_no_counterpart_in_onnx(tmp_path):
    pytest.importorskip("onnx")
    x = torch.ones(3, 2)
    step, state = begin(lf.dense(2), x, lf.losses.mse(), shampoo())
    with pytest.raises(lf.LayerError, match=r"cannot become ONNX: .*eigh.* has no counterpart"):
        lf.export_step(step, state, (x, x), tmp_path / "step.onnx")
