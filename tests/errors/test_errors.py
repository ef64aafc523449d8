"""What a layer is wrongly given: one message with layer, position, expected and given."""

import traceback

import pytest
import torch
from helpers.refusals import refusals

import lincoln_fn as lf

KEY = lf.Key(0)
X = torch.zeros(2, 3)


def meta(*shape):
    return torch.empty(*shape, device="meta")


DENSE = lf.dense(4)
PARAMS = DENSE.init(KEY, X)
NET = lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10))
NARROW = lf.serial(lf.dense(400)).init(KEY, torch.zeros(1, 784))
NET_PARAMS = (*NARROW, *NET.init(KEY, torch.zeros(1, 784))[1:])
NESTED = lf.serial(lf.tanh(), lf.serial(DENSE, lf.relu()))
NESTED_PARAMS = NESTED.init(KEY, X)
NESTED_CACHE = NESTED.forward(NESTED_PARAMS, X)[1]


def failing(params, *arguments):
    raise RuntimeError("no such thing")


MINE = lf.Layer("mine()", failing, failing)
MINE_BACK = lf.Layer("mine()", lambda params, x: (x, None), failing)


test_layers_say_where_what_and_what_instead = refusals(
    """
NET.forward(NET_PARAMS, torch.zeros(128, 784)) -> ^serial[2] dense(10): expected x of shape (...,
    500), got (128, 400)$
NESTED.forward(NESTED_PARAMS, torch.zeros(2, 5)) -> ^serial[1] serial[0] dense(4): expected x of
    shape (..., 3), got (2, 5)$
DENSE.forward(PARAMS, torch.tensor(1.0)) -> ^dense(4): expected x of shape (..., 3), got ()$
serial(softmax(dim=2)).forward(((),), X) -> ^serial[0] softmax(dim=2): expected x to have an axis
    dim=2, got shape (2, 3)$
NESTED.forward(NESTED_PARAMS, X.long()) -> ^serial[0] tanh(): expected x of a floating dtype, got
    torch.int64; convert it first, say by x.float()$
serial(DENSE).forward((PARAMS,), X.double()) -> ^serial[0] dense(4): expected x of dtype
    torch.float32, got torch.float64; convert it by x.to(torch.float32)$
serial(DENSE).forward((PARAMS,), meta(2, 3)) -> ^serial[0] dense(4): expected x on cpu, got meta$
NESTED.forward(NESTED_PARAMS, [[1.0, 2.0, 3.0]]) -> ^serial[0] tanh(): expected x to be a tensor,
    got list; convert it by torch.tensor$
DENSE.forward(PARAMS, X.numpy()) -> ^dense: expected x to be a tensor, got ndarray; convert it by
    torch.as_tensor$
NESTED.backward(NESTED_PARAMS, NESTED_CACHE, torch.zeros(2, 5)) -> ^serial[1] serial[1] relu():
    expected g of shape (2, 4), got (2, 5)$
NESTED.grads(NESTED_PARAMS, NESTED_CACHE, torch.zeros(2, 4).double()) -> ^serial[1] serial[1]
    relu(): expected g of dtype torch.float32, got torch.float64$
sigmoid().backward((), softmax().forward((), X)[1], X) -> ^sigmoid: expected the cache of its own
    forward, got Cache(y=float32[2, 3], dim=-1)$
serial(softmax()).backward(((),), (log_softmax().forward((), X)[1],), X) -> ^serial[0] softmax():
    expected the cache of its own forward, got Cache(y=float32[2, 3], dim=-1)$
DENSE.backward(PARAMS, torch.zeros(2, 5), torch.zeros(2, 4)) -> ^dense(4): expected the cache of its
    own forward, x of shape (..., 3), got float32[2, 5]$
DENSE.backward(PARAMS, torch.zeros(7, 3), torch.zeros(2, 4)) -> ^dense(4): expected g of shape (7,
    4), got (2, 4)$
DENSE.grads(X, X, X) -> ^dense: expected params dense.Params, got float32[2, 3]; the order is
    (params, x)$
NESTED.forward(((),), X) -> ^serial: expected params with 2 entries, got ((),)$
NESTED.backward(NESTED_PARAMS, (X,), X) -> ^serial: expected the cache with 2 entries, got
    (float32[2, 3],)$
serial(tanh(), MINE).forward(((), ()), X) -> ^serial[1] mine(): forward raised RuntimeError on
    float32[2, 3]: no such thing$
serial(tanh(), MINE_BACK).input_grad(((), ()), (X, None), X) -> ^serial[1] mine(): input_grad raised
    RuntimeError on float32[2, 3]: no such thing$
serial(tanh(), MINE_BACK).backward(((), ()), (X, None), X) -> ^serial[1] mine(): backward raised
    RuntimeError on float32[2, 3]: no such thing$
""",
    globals(),
)


@pytest.mark.parametrize("x", [[[1.0, 2.0, 3.0]], None])
def test_init_says_that_its_example_is_no_tensor(x):
    with pytest.raises(
        lf.LayerError,
        match=r"expected x to be a tensor, got (list; convert it by torch.tensor|NoneType)$",
    ):
        NESTED.init(KEY, x)


def test_an_error_keeps_its_cause():
    with pytest.raises(lf.LayerError) as caught:
        lf.serial(MINE).forward(((),), X)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (caught.value.where, caught.value.problem) == (
        "serial[0] mine()",
        "forward raised RuntimeError on float32[2, 3]: no such thing",
    )


def refusing(params, *arguments):
    raise lf.LayerError("mine()", "no such thing")


def handing_on(visit, params, x):
    return visit(0, params, x)


WALKS = {
    "forward": lambda net, params, x: net.forward(params, x),
    "predict": lambda net, params, x: net.predict(params, x),
    "a visitor": lambda net, params, x: lf.walk.there(
        lambda layer, path, params, x: layer.forward(params, x), net, params, x),
}  # fmt: skip


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize(("function", "tracebacks"), [(refusing, 1), (failing, 2)])
def test_an_error_deep_inside_is_one_traceback_with_the_frame_that_raised_it(
    walk, function, tracebacks
):
    own = lf.Layer("mine()", function, function)
    net = lf.walk.composition("around", (own,), handing_on, handing_on)
    params = ()
    for _ in range(4):
        net, params = lf.serial(lf.relu(), lf.residual(net)), ((), (params, ()))
    with pytest.raises(lf.LayerError) as caught:
        WALKS[walk](net, params, X)
    printed = "".join(traceback.format_exception(caught.value))
    assert caught.value.where == "serial[1] residual[0] " * 4 + "around[0] mine()"
    assert printed.count("Traceback (most recent call last)") == tracebacks
    assert (printed.count(f"in {function.__name__}\n"), printed.count("in handing_on\n")) == (1, 1)
    assert printed.count("\n") < 60
    cause = caught.value.__cause__
    assert cause is None if function is refusing else isinstance(cause, RuntimeError)
