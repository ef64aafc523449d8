# %% [markdown]
# # The notebook that the library began from
#
# Before this library there was a notebook. It derived six functions, trained three networks with
# them, and got good results. Ten things in it were wrong. Most of them did not show on that day.
#
# This is the same notebook, written again. It has the same seven sections and the same three
# trainings. There, a layer was an object that remembered its last input. Here it is a pair of pure
# functions. Each mistake is explained where it stood, and the checker finds what it can see.

# %%
import math
import os
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from torchvision.datasets import MNIST

import lincoln_fn as lf

scores = lf.keys.normal(lf.Key(0), (5, 3))  # for the checks

# %% [markdown]
# ## 1. Log-sigmoid
#
# The sigmoid gives the probability of class 1. A loss needs its logarithm. If $p$ rounds to 0, the
# logarithm is $-\infty$. So a layer should give $y = \log p$ at once:
#
# $$
# p = \frac{e^x}{e^x + 1}, \qquad y = \log p = x - \log(e^x + 1)
# $$
#
# The gradient is short:
#
# $$
# \frac{\partial y}{\partial x} = 1 - p = 1 - e^y, \qquad dx = g\,(1 - e^y)
# $$
#
# The old notebook wrote this down as it stands:


# %%
def old_forward(params, x):
    y = x - torch.log(torch.exp(x) + 1)
    return y, y


def old_backward(params, y, g):
    return g * (1 - torch.exp(y)), ()


old_log_sigmoid = lf.Layer("old_log_sigmoid()", old_forward, old_backward)
lf.testing.check_layer(old_log_sigmoid, (), scores, all=True)

# %% [markdown]
# For small numbers it is right. But a formula that is right on paper can fail in a computer.
#
# **Question.** $\log p$ of $x = 100$ is about 0, for $p$ is almost 1. What does this code give in
# float32, whose largest number is about $e^{88.7}$?
#
# <details markdown="1"><summary>Answer</summary>
#
# $e^{100}$ is infinite there, and $100 - \infty = -\infty$. The gradient is $1 - e^{-\infty} = 1$,
# where it should be about 0.
#
# </details>

# %%
y, cache = old_forward((), torch.tensor([100.0]))
slope, _ = old_backward((), cache, torch.tensor([1.0]))
print("y:", y.item(), "  dy/dx:", slope.item())

# %% [markdown]
# **Mistake 1: overflow.** The checker computes in float64, where $e^x$ is infinite above 709. Give
# it a larger number, and it says that $y$ is infinite:

# %%
large = torch.tensor([[-1000.0, 2.0, 1000.0]])
lf.testing.check_layer(old_log_sigmoid, (), large, all=True)

# %% [markdown]
# The remedy is to take the large part out of the logarithm. Then the exponential is at most 1:
#
# $$
# y = \min(x, 0) - \log(1 + e^{-|x|})
# $$
#
# `log1p` and `expm1` compute $\log(1 + a)$ and $e^a - 1$ without losing digits where $a$ is small.


# %%
def log_sigmoid_forward(params, x):
    y = x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))
    return y, y


def log_sigmoid_backward(params, y, g):
    return -g * torch.expm1(y), ()


log_sigmoid = lf.Layer("log_sigmoid()", log_sigmoid_forward, log_sigmoid_backward)
lf.testing.check_layer(log_sigmoid, (), large, all=True)

# %%
lf.plots.layer(log_sigmoid)

# %% [markdown]
# **Mistake 2: errors that fail.** If a shape was wrong, the old code raised a `DimensionError`. But
# that name was never imported, so the reader got a `NameError`. Here an error names the layer, what
# it expected and what it was given:

# %%
try:
    lf.log_sigmoid().backward((), torch.zeros(5, 3), torch.zeros(5, 4))
except lf.LayerError as error:
    print(error)

# %% [markdown]
# ## 2. The loss of log-sigmoid
#
# The label $y$ is 0 or 1, and $z$ is the output of log-sigmoid, $z = \log p$:
#
# $$
# l = -y z - (1 - y) \log(1 - e^z), \qquad
# \frac{\partial l}{\partial z} = -y + (1 - y) \frac{e^z}{1 - e^z}
# $$
#
# The loss of a batch is the sum over its examples. The old code, again, is the formula:


# %%
def old_loss_forward(z, y):
    y = y.reshape(z.shape).to(z.dtype)
    return (-y * z - (1 - y) * torch.log(1 - torch.exp(z))).sum(), (z, y)


def old_loss_backward(cache, g=1.0):
    z, y = cache
    return g * (-y + (1 - y) * torch.exp(z) / (1 - torch.exp(z)))


old_loss = lf.Loss("old_log_sigmoid_loss()", old_loss_forward, old_loss_backward)
z, y = torch.tensor([[-2.0], [-1.0], [-0.5]]), torch.tensor([0, 1, 0])
lf.testing.check_loss(old_loss, z, y, all=True)

# %% [markdown]
# **Mistake 3: a probability that rounds to 1.** Near $z = 0$, $e^z$ rounds to 1. Then
# $\log(1 - e^z)$ is $-\infty$.
#
# **Question.** The label is 1, so the second term has the factor $1 - y = 0$. Is the loss right?
#
# <details markdown="1"><summary>Answer</summary>
#
# No: $0 \cdot \infty$ is `nan`. One example that the network is sure of, and is right about, makes
# the loss of its whole batch `nan`.
#
# </details>

# %%
sure = torch.tensor([[-1e-30], [-1.0]])
print(old_loss.forward(sure, torch.tensor([1, 1]))[0])
lf.testing.check_loss(old_loss, sure, torch.tensor([1, 1]), all=True)

# %% [markdown]
# The remedy has two parts. $\log(1 - e^z)$ is computed by one of two formulas, that which keeps its
# digits. And $z$ is kept below 0 by the smallest number of float32. In the gradient,
# $e^z / (1 - e^z) = 1 / (e^{-z} - 1)$.


# %%
def loss_forward(z, y):
    y = y.reshape(z.shape).to(z.dtype)
    z = z.clamp(max=-(2.0**-126))
    near = z > -math.log(2)
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, z)))
    log_of_rest = torch.where(near, torch.log(-torch.expm1(z)), far)
    return (-y * z - (1 - y) * log_of_rest).sum(), (z, y)


def loss_backward(cache, g=1.0):
    z, y = cache
    return g * ((1 - y) / torch.expm1(-z) - y)


log_sigmoid_loss = lf.Loss("log_sigmoid_loss()", loss_forward, loss_backward)
lf.testing.check_loss(log_sigmoid_loss, sure, torch.tensor([1, 0]), all=True)

# %% [markdown]
# ### The first training
#
# The data has 569 tumours with 30 measurements each. The network says whether a tumour is benign.
# The old notebook trained on all of them, and measured on the same ones: 98.77%. That says how
# well the network has learned them by heart. So here it is trained a second time, without a fifth
# of the tumours, and measured on that fifth.

# %%
bunch = load_breast_cancer()
features, labels = torch.as_tensor(bunch.data), torch.as_tensor(bunch.target)
order_key, all_key, split_key = (lf.Key(0).fold_in(i) for i in range(3))
rows = lf.keys.permutation(order_key, len(features))
held_out, rest = rows[: len(rows) // 5], rows[len(rows) // 5 :]
net = lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1), log_sigmoid)
accuracy = partial(lf.metrics.binary_accuracy, threshold=math.log(0.5))


def train_on(train, measured, key):
    mean, deviation = features[train].mean(0), features[train].std(0, correction=0)
    x = ((features - mean) / deviation).float()
    _, history = lf.fit(
        net,
        log_sigmoid_loss,
        lf.optim.sgd(0.003),
        (x[train], labels[train]),
        valid=(x[measured], labels[measured]),
        metric=accuracy,
        key=key,
        epochs=500,
        batch_size=128,
        every=20 * math.ceil(len(train) / 128),
        progress=False,
    )
    return history


on_all = train_on(rows, rows, all_key)
on_rest = train_on(rest, held_out, split_key)
print(f"trained on all, measured on the same:        {on_all[-1].metric:.3%}")
print(f"trained on four fifths, measured on the rest: {on_rest[-1].metric:.3%}")

# %%
curves = {"measured on the same": on_all, "measured on the rest": on_rest}
lf.plots.learning_curve(curves, "metric")

# %% [markdown]
# ## 3. Softmax
#
# $$
# y_j = \frac{e^{x_j}}{\sum_n e^{x_n}}
# $$
#
# With $\delta_{jk} = 1$ where $j = k$, else 0, the quotient rule gives
#
# $$
# \frac{\partial y_j}{\partial x_k} = y_j\,(\delta_{jk} - y_k)
# $$
#
# These are $M^2$ numbers for an example with $M$ classes: the Jacobian. The old notebook made it
# for each example, and multiplied it by $g$:


# %%
def old_softmax_forward(params, x):
    y = torch.exp(x) / torch.exp(x).sum(1, keepdim=True)
    return y, y


def old_softmax_backward(params, y, g):
    n, m = y.shape
    jacobian = torch.zeros(n, m, m, dtype=y.dtype)
    for i, row in enumerate(y):
        jacobian[i] = torch.diag(row) - torch.outer(row, row)
    return torch.bmm(g.view(n, 1, m), jacobian).squeeze_(), ()


old_softmax = lf.Layer("old_softmax()", old_softmax_forward, old_softmax_backward)
lf.testing.check_layer(old_softmax, (), scores, all=True)

# %% [markdown]
# **Mistake 4: `squeeze_()`.** It removes every axis of length 1. It is meant to remove the one of
# the product.
#
# **Question.** For which batch does it remove one too many?
#
# <details markdown="1"><summary>Answer</summary>
#
# For a batch of one example. Such a batch comes at the end of an epoch, if the number of examples
# leaves a remainder of 1.
#
# </details>

# %%
lf.testing.check_layer(old_softmax, (), scores[:1], all=True)

# %% [markdown]
# **Mistake 5: overflow again**, for any $x$ above 88 in float32:

# %%
lf.testing.check_layer(old_softmax, (), large, all=True)

# %% [markdown]
# **Mistake 6: the Jacobian itself.** It is right, but nobody needs it. Put it into the chain rule:
#
# $$
# dx_k = \sum_j g_j\, y_j\, (\delta_{jk} - y_k) = y_k \Big( g_k - \sum_j g_j y_j \Big)
# $$
#
# That takes $M$ numbers for each example, and no loop. The largest $x$ of each row is subtracted
# first. It changes neither $y$ nor the gradient, and no exponential is above 1.


# %%
def softmax_forward(params, x):
    exp = torch.exp(x - x.max(1, keepdim=True).values)
    y = exp / exp.sum(1, keepdim=True)
    return y, y


def softmax_backward(params, y, g):
    return y * (g - (g * y).sum(1, keepdim=True)), ()


softmax = lf.Layer("softmax()", softmax_forward, softmax_backward)
lf.testing.check_layer(softmax, (), large, all=True)

# %% [markdown]
# The picture is the Jacobian of a batch of 4 examples with 5 classes. The blocks off the diagonal
# are empty, because an example does not change another. Red is positive: a larger score makes its
# own probability larger, and all others smaller.

# %%
lf.plots.jacobian(softmax, (), lf.keys.normal(lf.Key(0), (4, 5)))

# %% [markdown]
# ## 4. Cross-entropy
#
# The label of an example is a class $c$. The loss is small where its probability is large:
#
# $$
# l = -\log p_c, \qquad
# \frac{\partial l}{\partial p_j} = -\frac{\delta_{jc}}{p_c}
# $$
#
# **Question.** What is $p_c$ in float32, if the score of class $c$ is 200 below the largest?
#
# <details markdown="1"><summary>Answer</summary>
#
# It is 0, because $e^{-200}$ is smaller than any number of float32. Its logarithm is $-\infty$, and
# the gradient divides by 0. So $p_c$ is kept above the smallest normal number, $2^{-126}$.
#
# </details>


# %%
def entropy_forward(p, c):
    p_c = p.gather(1, c.view(-1, 1)).clamp(min=2.0**-126)
    return -torch.log(p_c).sum(), (p, c, p_c)


def entropy_backward(cache, g=1.0):
    p, c, p_c = cache
    return torch.zeros_like(p).scatter(1, c.view(-1, 1), -g / p_c)


cross_entropy = lf.Loss("cross_entropy()", entropy_forward, entropy_backward)
classes = torch.tensor([0, 2, 1, 1, 0])
lf.testing.check_loss(cross_entropy, softmax.predict((), scores), classes, all=True)

# %% [markdown]
# ## 5. Data and measures
#
# The second training reads handwritten digits. It needs data, and a measure of success. Here the
# old notebook had four mistakes, and none of them was in a gradient. No checker sees them. A small
# example does.

# %%
root = Path(os.environ.get("LINCOLN_FN_DATA", "~/.cache/lincoln_fn")).expanduser()
train, test = (MNIST(root, is_train, download=True) for is_train in (True, False))


def to_rows(images):
    return (images.flatten(1) / 255 - 0.1307) / 0.3081


data = to_rows(train.data), train.targets
valid = to_rows(test.data), test.targets

# %% [markdown]
# **Mistake 7: an average of averages.** The accuracy was computed for each batch, and then
# averaged. The last batch is smaller, but counted as much as the others. Take 5 examples in batches
# of 4, and a network that reads only the last one wrongly:

# %%
prediction, target = torch.eye(2)[[0, 0, 0, 0, 0]], torch.tensor([0, 0, 0, 0, 1])
batches = [(prediction[:4], target[:4]), (prediction[4:], target[4:])]
of_batches = sum(lf.metrics.accuracy(*batch) for batch in batches) / len(batches)
metrics = {"accuracy": lf.metrics.accuracy}
of_examples = lf.evaluate(lf.identity(), (), batches, metrics)["accuracy"]
print("average of the batches:", of_batches, "  share of the examples:", of_examples)

# %% [markdown]
# **Mistake 8: a sum divided by the wrong number.** Every 100 steps the old notebook printed the sum
# of the losses since the last line, divided by 100. An epoch has 469 steps.
#
# **Question.** The first line of the second epoch read 9.7, the next 29.0. Why?
#
# <details markdown="1"><summary>Answer</summary>
#
# The steps were counted on from the first epoch, but the sum began anew with the second. The line
# at step 500 has the losses of 31 steps, divided by 100. $9.7 \cdot 100 / 31$ is 31.3, which fits
# the line after it.
#
# </details>

# %%
print(f"{9.6997 * 100 / 31:.1f}, then 29.0")

# %% [markdown]
# **Mistake 9: a shuffle that returns nothing.** `np.random.shuffle` shuffles an array in place, and
# returns `None`. The ancestor used what it returned, so nothing was shuffled. Here a permutation is
# a value, drawn from a key:

# %%
lf.keys.permutation(lf.Key(0), 10)

# %% [markdown]
# **Mistake 10: a wrapper for every source of data.** The losses wanted labels as a column, so each
# source was wrapped by a generator that reshaped them. Here labels are class numbers of shape (N,),
# and any iterable of pairs $(x, y)$ is data.
#
# ### The second training
#
# The network has one hidden layer of 500 units, and is trained for one epoch. The old notebook
# printed an accuracy of 0.925 at step 400.


# %%
def train_digits(last, loss, epochs):
    net = lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10), last)
    _, history = lf.fit(
        net,
        loss,
        lf.optim.sgd(0.003),
        data,
        valid=valid,
        metric=lf.metrics.accuracy,
        key=lf.Key(0),
        epochs=epochs,
        batch_size=128,
        every=100,
        progress=False,
    )
    return history


by_softmax = train_digits(softmax, cross_entropy, epochs=1)
print(*by_softmax, sep="\n")

# %% [markdown]
# ## 6. Log-softmax
#
# As with the sigmoid, the loss needs the logarithm, so the layer should give it at once:
#
# $$
# y_j = x_j - \log \sum_n e^{x_n}, \qquad
# \frac{\partial y_j}{\partial x_k} = \delta_{jk} - e^{y_k}
# $$
#
# The old notebook made the Jacobian again, and overflowed again. The chain rule gives
#
# $$
# dx_k = \sum_j g_j\, (\delta_{jk} - e^{y_k}) = g_k - e^{y_k} \sum_j g_j
# $$


# %%
def log_softmax_forward(params, x):
    shifted = x - x.max(1, keepdim=True).values
    y = shifted - torch.log(torch.exp(shifted).sum(1, keepdim=True))
    return y, y


def log_softmax_backward(params, y, g):
    return g - torch.exp(y) * g.sum(1, keepdim=True), ()


log_softmax = lf.Layer("log_softmax()", log_softmax_forward, log_softmax_backward)
lf.testing.check_layer(log_softmax, (), large, all=True)

# %% [markdown]
# The classic mistake is to forget that $y$ is a logarithm:

# %%
wrong = log_softmax.replace(
    backward=lambda params, y, g: (g - y * g.sum(1, keepdim=True), ()),
)
lf.testing.check_layer(wrong, (), scores, all=True)

# %% [markdown]
# ## 7. Negative log-likelihood
#
# The input is $z = \log p$, so nothing is left but to take one number:
#
# $$
# l = -z_c, \qquad \frac{\partial l}{\partial z_j} = -\delta_{jc}
# $$
#
# **Question.** Put 6 and 7 together. What is the gradient of the loss by the scores $x$?
#
# <details markdown="1"><summary>Answer</summary>
#
# The sum of $g$ is $-1$, for $g$ is $-1$ at $c$, else 0. So $dx_k = e^{y_k} - \delta_{kc}$: the
# probability, minus 1 at the label. It is never larger than 1. With softmax and cross-entropy it is
# the same, but computed by a division by $p_c$ and a product with it.
#
# </details>


# %%
def nll_forward(z, c):
    return -z.gather(1, c.view(-1, 1)).sum(), (z, c)


def nll_backward(cache, g=1.0):
    z, c = cache
    return -g * torch.zeros_like(z).scatter(1, c.view(-1, 1), 1.0)


nll = lf.Loss("nll()", nll_forward, nll_backward)
lf.testing.check_loss(nll, log_softmax.predict((), scores), classes, all=True)

# %% [markdown]
# ### The third training
#
# Five epochs. The old notebook came to 0.968.

# %%
by_log_softmax = train_digits(log_softmax, nll, epochs=5)
print(*by_log_softmax[-5:], sep="\n")

# %%
curves = {"softmax": by_softmax, "log-softmax": by_log_softmax}
lf.plots.learning_curve(curves, "metric")

# %% [markdown]
# In the first epoch both curves are almost the same. They have to be: it is the same loss of the
# same parameters.
#
# ## The ten mistakes
#
# | | mistake | who finds it |
# | --- | --- | --- |
# | 1 | log-sigmoid overflows | the checker, with a large number |
# | 2 | an error that raises another error | whoever makes the error |
# | 3 | the loss is infinite or `nan` where $p$ rounds to 1 | the checker, with a $z$ near 0 |
# | 4 | `squeeze_()` and a batch of one | the checker, with such a batch |
# | 5 | softmax and log-softmax overflow | the checker, with a large number |
# | 6 | a Jacobian for each example | nobody: it is right, and slow |
# | 7 | an average of averages | an example with a small last batch |
# | 8 | a sum divided by the wrong number | an eye on the first line of an epoch |
# | 9 | nothing is shuffled | a look at what is returned |
# | 10 | a wrapper for every source | whoever has to write it |
#
# Four of the ten were in gradients or near them, and the checker sees them, if it is given the
# input at which they show. So give it zeros, large numbers, and a batch of one.
