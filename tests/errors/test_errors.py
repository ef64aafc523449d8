"""What a layer is wrongly given: one message with layer, position, expected and given."""

import traceback
import warnings

import pytest
import torch
from helpers.cases.case import normal
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


test_layers_say_where_what_and_what_instead = refusals("""
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
NESTED.init(KEY, [[1.0, 2.0, 3.0]]) -> expected x to be a tensor, got list; convert it by
    torch.tensor$
NESTED.init(KEY, None) -> expected x to be a tensor, got NoneType$
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
""")


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


# Arguments in torch's order are refused, with what to write; ours pass as they are.


test_torchs_order_is_refused_with_what_to_write = refusals("""
conv2d(1, 8, 3) -> ^conv2d: expected ( ... conv2d(8, 3) ... conv2d(1, 8, stride=3)
conv2d(3, 64, 7) -> ^conv2d: expected ( ... conv2d(64, 7)
conv2d(16, 3, 5) -> ^conv2d: expected ( ... conv2d(3, 5)
conv_transpose2d(64, 32, 4) -> ^conv_transpose2d: expected ( ... conv_transpose2d(32, 4)
batch_norm(64) -> ^batch_norm: expected ( ... batch_norm() ... batch_norm(eps=64)
instance_norm(3) -> ^instance_norm: expected ( ... instance_norm()
group_norm(2, 64) -> ^group_norm: expected ( ... group_norm(2)
lstm(28, 128) -> ^lstm: expected ( ... lstm(128) ... lstm(28, num_layers=128)
transformer_encoder_block(64, 4) -> ^transformer_encoder_block: expected ( ...
    transformer_encoder_block(4)
add().forward((), [X, X]) -> got [float32[2, 3], float32[2, 3]]; write a tuple in place of the list$
bilinear(2).init(KEY, [X, X]) -> got [float32[2, 3], float32[2, 3]]; write a tuple in place of the
    list$
select(0).forward((), [X, X]) -> got [float32[2, 3], float32[2, 3]]; write a tuple in place of the
    list$
masked(relu()).forward(((),), [X, X]) -> got [float32[2, 3], float32[2, 3]]; write a tuple in place
    of the list$
losses.triplet_margin().forward([X] * 3, None) -> got [float32[2, 3], float32[2, 3], float32[2, 3]];
    write a tuple in place of the list$
""")


OURS = [
    lambda: lf.conv2d(8, 3, 2), lambda: lf.conv2d(8, 3, 1, 1), lambda: lf.conv2d(8, 1, 2),
    lambda: lf.conv2d(768, 16, 16), lambda: lf.conv2d(96, 11, 4), lambda: lf.conv2d(64, 7, 2, 3),
    lambda: lf.conv2d(8, 3, 3), lambda: lf.conv2d(8, 4, 2, 1), lambda: lf.conv2d(8, 4, 1),
    lambda: lf.conv_transpose2d(8, 2, 2), lambda: lf.conv2d(16, (3, 5), 2),
    lambda: lf.conv2d(1, 8, stride=3), lambda: lf.batch_norm(1e-3), lambda: lf.batch_norm(eps=64),
    lambda: lf.group_norm(2, 1e-3), lambda: lf.lstm(28, 2), lambda: lf.lstm(28, num_layers=20),
    lambda: lf.transformer_encoder_block(4, 64),
]  # fmt: skip


@pytest.mark.parametrize("made", OURS, ids=lambda made: str(made()))
def test_our_order_passes(made):
    assert isinstance(made(), lf.Layer)


def test_probabilities_that_do_not_sum_to_one_warn_once():
    x, target = normal(5, 3), torch.tensor([0, 1, 1, 0, 1])
    net, optimizer = lf.serial(lf.dense(2), lf.sigmoid()), lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.cross_entropy(), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            state, _ = step(state, (x, target))
        lf.make_step(net, lf.losses.cross_entropy(), optimizer)(
            lf.init_state(net, optimizer, lf.Key(1), x), (x, target)
        )
    assert [warning.category for warning in told] == [UserWarning]
    assert "softmax_cross_entropy() on logits" in str(told[0].message)


def test_probabilities_that_sum_to_one_do_not_warn():
    x, target = normal(5, 3), torch.tensor([0, 1, 1, 0, 1])
    net, optimizer = lf.serial(lf.dense(2), lf.softmax()), lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.cross_entropy(), optimizer)
    state, _ = step(lf.init_state(net, optimizer, lf.Key(0), x), (x, target))
    assert int(state.step) == 1


# Calls that Python refuses, or that are of torch or Keras.

LOSS, SGD = lf.losses.mse(), lf.optim.sgd(0.1)


def fit(*arguments, **options):
    return lf.fit(*arguments, key=KEY, **options)


test_a_wrong_call_says_what_to_write = refusals("""
fit(DENSE, LOSS, SGD, (X, X), validation_data=(X, X)) -> TypeError: write valid$
fit(DENSE, LOSS, SGD, (X, X), batchsize=2) -> TypeError: did you mean batch_size?$
fit(DENSE, LOSS, SGD, (X, X), params=PARAMS) -> TypeError: write state=lf.init_state(net, optimizer,
    key, x, params=params)$
dense(3, biass=False) -> TypeError: did you mean bias?$
dense(in_features=4, out_features=3) -> TypeError: the sizes of the input come from x: torch's
    (in_features, out_features) is dense(out_features)$
dense(784, 10) -> TypeError: the sizes of the input come from x: torch's (in_features, out_features)
    is dense(10)$
conv2d(1, 8, 3, 1, 1) -> TypeError: the sizes of the input come from x: torch's (in_channels,
    out_channels, kernel_size) is conv2d(8, 3)$
multi_head_attention(64, 8) -> TypeError: the sizes of the input come from x: torch's (embed_dim,
    num_heads) is multi_head_attention(8)$
lora(DENSE, PARAMS, KEY, rank=4) -> TypeError: write r$
optim.adam(learning_rate=0.1) -> TypeError: write lr$
data.batches((X,), 2, shuffle=True) -> TypeError: write key=lf.Key(seed), which shuffles$
fit(DENSE, LOSS, SGD, X, X) -> TypeError: the order is fit(net, loss, optimizer, data); data is one
    tuple, (x, target)$
fit(LOSS, DENSE, SGD, (X, X)) -> fit: expected net to be a Layer, got the Loss mse(); the order is
    fit(net, loss, optimizer, data)$
export(DENSE, PARAMS, 'a.onnx', X) -> export: expected path to be a file's path, got float32[2, 3];
    the order is export(net, params, x, path)$
fit(DENSE, LOSS, SGD, (X, X), verbose=1) -> TypeError: write progress$
Key() -> TypeError: Key: expected a seed, got none; write lf.Key(0), or another seed$
DENSE[0] -> TypeError: a Layer has no entries; write net.parts[0]$
LOSS(X, X) -> mse(): expected no call of the loss itself; write value, cache =
    loss.forward(prediction, target)$
DENSE.zzz -> AttributeError: has no attribute 'zzz'$
SGD.zzz -> AttributeError: has no attribute 'zzz'$
relu(zzz=1) -> TypeError: unexpected keyword argument 'zzz'$
""")


HABITS = {
    "eval": (DENSE,
        "net.predict(params, x) is as after training, and net.forward(params, x) as in it"),
    "to": (DENSE, "params = lf.tree.map(lambda t: t.to(device), params, states=True)"),
    "parameters": (DENSE, "params = net.init(key, x), which lf.tree.leaves lists"),
    "state_dict": (DENSE, "write lf.interop.to_state_dict(net, params)"),
    "step": (SGD, "write params, opt_state = optimizer.update(params, dparams, opt_state)"),
    "zero_grad": (SGD, "nothing to write: gradients are new values"),
}  # fmt: skip


@pytest.mark.parametrize("name", HABITS)
def test_a_method_of_torch_says_what_to_write(name):
    owner, told = HABITS[name]
    with pytest.raises(AttributeError) as refused:
        getattr(owner, name)
    assert str(refused.value).endswith(told)
    assert not hasattr(owner, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'zzz'$"):
        _ = owner.zzz
