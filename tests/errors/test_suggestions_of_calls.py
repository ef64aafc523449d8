"""A call that Python refuses, or that is of torch or Keras, says what to write."""

import pytest
import torch

import lincoln_fn as lf

X = torch.ones(4, 3)
NET, LOSS, SGD, KEY = lf.dense(3), lf.losses.mse(), lf.optim.sgd(0.1), lf.Key(0)
PARAMS = NET.init(KEY, X)
SIZES = "the sizes of the input come from x: torch's "
OF_CONV = "(in_channels, out_channels, kernel_size)"
ORDER = "the order is fit(net, loss, optimizer, data)"


def fit(*arguments, **options):
    return lf.fit(*arguments, key=KEY, **options)


CALLS = {
    "validation_data": (lambda: fit(NET, LOSS, SGD, (X, X), validation_data=(X, X)), "write valid"),
    "batchsize": (lambda: fit(NET, LOSS, SGD, (X, X), batchsize=2), "did you mean batch_size?"),
    "params": (lambda: fit(NET, LOSS, SGD, (X, X), params=PARAMS),
        "write state=lf.init_state(net, optimizer, key, x, params=params)"),
    "biass": (lambda: lf.dense(3, biass=False), "did you mean bias?"),
    "in_features": (lambda: lf.dense(in_features=4, out_features=3),
        f"{SIZES}(in_features, out_features) is dense(out_features)"),
    "dense": (lambda: lf.dense(784, 10), f"{SIZES}(in_features, out_features) is dense(10)"),
    "conv2d": (lambda: lf.conv2d(1, 8, 3, 1, 1), f"{SIZES}{OF_CONV} is conv2d(8, 3)"),
    "attention": (lambda: lf.multi_head_attention(64, 8),
        f"{SIZES}(embed_dim, num_heads) is multi_head_attention(8)"),
    "rank": (lambda: lf.lora(NET, PARAMS, KEY, rank=4), "write r"),
    "learning_rate": (lambda: lf.optim.adam(learning_rate=0.1), "write lr"),
    "shuffle": (lambda: lf.data.batches((X,), 2, shuffle=True),
        "write key=lf.Key(seed), which shuffles"),
    "x and target": (lambda: fit(NET, LOSS, SGD, X, X), f"{ORDER}; data is one tuple, (x, target)"),
    "the loss first": (lambda: fit(LOSS, NET, SGD, (X, X)),
        f"fit: expected net to be a Layer, got the Loss mse(); {ORDER}"),
    "the path before x": (lambda: lf.export(NET, PARAMS, "a.onnx", X),
        "export: expected path to be a file's path, got float32[4, 3]; "
        "the order is export(net, params, x, path)"),
    "verbose": (lambda: fit(NET, LOSS, SGD, (X, X), verbose=1), "write progress"),
    "no seed": (lambda: lf.Key(),
        "Key: expected a seed, got none; write lf.Key(0), or another seed"),
    "an index": (lambda: NET[0], "a Layer has no entries; write net.parts[0]"),
    "a called loss": (lambda: LOSS(X, X), "mse(): expected no call of the loss itself; "
        "write value, cache = loss.forward(prediction, target)"),
}  # fmt: skip


HABITS = {
    "eval": (NET,
        "net.predict(params, x) is as after training, and net.forward(params, x) as in it"),
    "to": (NET, "params = lf.tree.map(lambda t: t.to(device), params, states=True)"),
    "parameters": (NET, "params = net.init(key, x), which lf.tree.leaves lists"),
    "state_dict": (NET, "write lf.interop.to_state_dict(net, params)"),
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


@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_call_says_what_to_write(case):
    call, told = CALLS[case]
    with pytest.raises((TypeError, lf.LayerError)) as refused:
        call()
    assert str(refused.value).endswith(told)


def test_an_unknown_keyword_without_a_likely_one_is_pythons_error():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'zzz'$"):
        lf.relu(zzz=1)
