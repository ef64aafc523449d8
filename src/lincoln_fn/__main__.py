"""A first program. It trains a network, and checks every gradient in it.

    import lincoln_fn as lf

    x = lf.keys.normal(lf.Key(0), (64, 3))
    target = x.sin().sum(dim=1, keepdim=True)
    net = lf.serial(lf.dense(32), lf.tanh(), lf.dense(1))
    loss, optimizer = lf.losses.mse(), lf.optim.adam(1e-2)
    state, history = lf.fit(
        net, loss, optimizer, (x, target), key=lf.Key(1), batch_size=16, epochs=10
    )
    lf.testing.check_layer(net, state.params, x)  # silent: it is right

Is my backward right?    python -m lincoln_fn.testing ops.py:Mine --inputs "f32[4,8], f32[8]"
An exercise, with tests  python -m lincoln_fn.testing.assignment softmax
A derivation             python -c "import lincoln_fn as lf; help(lf.layers.softmax)"
Names of torch, optax, torchmetrics and transformers, and ours
                         python -m lincoln_fn.vocabulary
"""

import lincoln_fn as lf

if __name__ == "__main__":  # without torch, and without a room
    print(f"lincoln_fn {lf.__version__}: backpropagation you can read, test and own.\n\n{__doc__}")
