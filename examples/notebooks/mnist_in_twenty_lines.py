# %% [markdown]
# # Train MNIST in twenty lines
#
# Here is a whole training: data, network, loss, optimizer, and the accuracy on images that it was
# not trained on. The rest of the notebook looks at each part.
#
# The images are read from the folder in the environment variable `LINCOLN_FN_DATA`. Without it, the
# first run downloads 12 MB.

# %%
import os
from pathlib import Path

from torchvision.datasets import MNIST

import lincoln_fn as lf

root = Path(os.environ.get("LINCOLN_FN_DATA", "~/.cache/lincoln_fn")).expanduser()
train, test = (MNIST(root, is_train, download=True) for is_train in (True, False))


def to_rows(images):
    return (images.flatten(1) / 255 - 0.1307) / 0.3081


x, x_test = to_rows(train.data), to_rows(test.data)

net = lf.serial(lf.dense(128), lf.relu(), lf.dense(10))
loss = lf.losses.softmax_cross_entropy()
optimizer = lf.optim.adam(1e-3)

data = (x, train.targets)
measured = {"valid": (x_test, test.targets), "metric": lf.metrics.accuracy}
length = {"epochs": 5, "batch_size": 128, "every": 100, "progress": False}
state, history = lf.fit(net, loss, optimizer, data, key=lf.Key(0), **length, **measured)

prediction = net.predict(state.params, x_test)
is_right = prediction.argmax(1) == test.targets
print(f"{is_right.sum():,} of {len(x_test):,} test images are read correctly")
print(f"loss {history[0].loss:.3f} at first, {history[-1].loss:.3f} at last")

# %% [markdown]
# The history shows itself as two curves: the loss, and the accuracy on the test images.

# %%
history

# %% [markdown]
# ## The data
#
# An image has 28 by 28 pixels, from 0 to 255. They become a row of 784 numbers. Over all training
# images the mean of a pixel is 0.1307 and the standard deviation 0.3081, if white is 1. So after
# the subtraction and the division the mean is 0 and the standard deviation 1:

# %%
print(f"{tuple(x.shape)}, mean {x.mean().abs():.3f}, standard deviation {x.std():.3f}")

# %% [markdown]
# ## The network
#
# A network is a value without parameters. `fit` draws them from the key, and returns them in the
# state.

# %%
lf.summary(net, x[:128])

# %% [markdown]
# **Question.** Where do the 101,770 parameters come from?
#
# <details markdown="1"><summary>Answer</summary>
#
# $784 \cdot 128 + 128 = 100{,}480$ in the first layer, and $128 \cdot 10 + 10 = 1{,}290$ in the
# second.
#
# </details>
#
# ## The loss
#
# The network gives ten numbers $z$ for an image. Softmax turns them into probabilities $p$. The
# loss is $-\log p_c$, where $c$ is the right digit. Its gradient is the shortest of all:
#
# $$
# dz_j = p_j - \delta_{jc}
# $$
#
# **Question.** What is the loss of a network that knows nothing, and gives each digit the
# probability $1/10$?
#
# <details markdown="1"><summary>Answer</summary>
#
# $\log 10 = 2.303$. The network begins near it.
#
# </details>

# %%
start = net.init(lf.Key(0), x)
value, _ = loss.forward(net.predict(start, x), train.targets)
print(f"the loss before training: {value:.3f}")

# %% [markdown]
# ## What `fit` does
#
# For each batch: forward, loss, backward, update. This is one step by hand, with the library's own
# functions:

# %%
batch, target = x[:128], train.targets[:128]
scores, cache = net.forward(start, batch)
value, loss_cache = loss.forward(scores, target)
dparams = net.grads(start, cache, loss.backward(loss_cache))
params, _ = optimizer.update(start, dparams, optimizer.init(start))
after, _ = loss.forward(net.predict(params, batch), target)
print(f"the loss of this batch goes from {value:.3f} to {after:.3f}")

# %% [markdown]
# ## What it confuses
#
# A row is a digit, a column what it was read as.

# %%
lf.plots.confusion_matrix(prediction, test.targets)

# %% [markdown]
# ## What it looks for
#
# Each of the 128 units of the first layer has a weight for each pixel. Here are the first 32, as
# images:

# %%
lf.plots.filters(state.params[0].weight.T[:32].reshape(32, 1, 28, 28))

# %% [markdown]
# ## The walk there and back
#
# The size of each layer's output, and of the gradient that comes back to it:

# %%
lf.plots.flow(net, state.params, x_test[:1000], loss, test.targets[:1000])

# %% [markdown]
# **Question.** Every gradient in this training was written by hand. How do you know that it is
# right?
#
# <details markdown="1"><summary>Answer</summary>
#
# By comparing it with the slopes of forward. The checker does it on eight of these images. At a
# kink of ReLU, if one is met, it says so.
#
# </details>

# %%
lf.testing.check_layer(net, state.params, x_test[:8], all=True)
