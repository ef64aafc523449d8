# %% [markdown]
# # Find the mistake
#
# Ten backward passes. Each has one mistake, of a kind that students have made in published code;
# this code was written for this page. Read each, make your guess, and open the answer. At the end
# the checker gives its own.

# %%
import numpy as np
import torch

import lincoln_fn as lf

draw = np.random.default_rng(0)
tests = {}


def keep(name, forward, backward, *arrays, **options):
    """Keep a pair of functions, with x and its parameters: arrays, or their shapes."""
    layer = lf.testing.from_numpy(forward, backward, **options)
    given = (a if isinstance(a, np.ndarray) else draw.normal(size=a) for a in arrays)
    x, *params = map(torch.from_numpy, given)
    tests[name] = layer, tuple(params), x


# %% [markdown]
# ## 1 A dense layer


# %%
def affine_forward(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.mean(axis=0)


keep("dense", affine_forward, affine_backward, (6, 4), (4, 3), (3,))

# %% [markdown]
# **Question.** Which of the three gradients is wrong?
#
# <details markdown="1"><summary>Answer</summary>
#
# `db`. Each row of $x$ adds $b$ to its output, so the gradients of all rows add up. A mean belongs
# here only if the loss has it, and then it is in `dout` already.
#
# </details>
#
# ## 2 ReLU


# %%
def relu_forward(x):
    return np.maximum(x, 0), x


def relu_backward(dout, x):
    dx = dout
    dx[x <= 0] = 0
    return dx


keep("ReLU", relu_forward, relu_backward, (5, 4))

# %% [markdown]
# **Question.** The gradient is right. What is wrong?
#
# <details markdown="1"><summary>Answer</summary>
#
# `dx` is another name of `dout`, and not a copy: the function changes its argument. Where a
# residual connection uses `dout` once more, it gets the masked one.
#
# </details>
#
# ## 3 Softmax


# %%
def softmax_forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    return y, y


def softmax_backward(dout, y):
    return dout * y * (1 - y)


keep("softmax", softmax_forward, softmax_backward, (5, 4))

# %% [markdown]
# **Question.** $y (1 - y)$ is $\partial y_i / \partial x_i$. What is missing?
#
# <details markdown="1"><summary>Answer</summary>
#
# Each $x_i$ changes every $y_j$, through the sum below the fraction. With all of them,
# $dx = y \left(g - \sum_j g_j y_j\right)$.
#
# </details>
#
# ## 4 Batch norm


# %%
def norm_forward(x, gamma, beta):
    mean, std = x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)
    x_hat = (x - mean) / std
    return gamma * x_hat + beta, (x_hat, std, gamma)


def norm_backward(dout, cache):
    x_hat, std, gamma = cache
    return dout * gamma / std, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


keep("batch norm", norm_forward, norm_backward, (6, 3), (3,), (3,))

# %% [markdown]
# **Question.** Which paths from $x$ to $y$ does `dx` leave out?
#
# <details markdown="1"><summary>Answer</summary>
#
# Those through the mean and the variance. Both depend on $x$, and each gives `dx` a term.
#
# </details>
#
# ## 5 Batch norm, again


# %%
def norm_backward_2(dout, cache):
    x_hat, std, gamma = cache
    d = dout * gamma
    dx = (d - d.mean(axis=0) - x_hat * (d * x_hat).mean(axis=0)) / std
    return dx, dout.T @ x_hat, dout.sum(axis=0)


keep("batch norm 2", norm_forward, norm_backward_2, (6, 3), (3,), (3,))

# %% [markdown]
# **Question.** `dx` is right. What shape has the gradient of `gamma`?
#
# <details markdown="1"><summary>Answer</summary>
#
# $3 \times 3$. A matrix product multiplies every column with every other. The gradient of `gamma`
# is the diagonal alone: multiply element by element, then sum.
#
# </details>
#
# ## 6 Convolution


# %%
def windows(x, w, pad):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    high, wide = w.shape[2:]
    rows, columns = x.shape[2] - high + 1, x.shape[3] - wide + 1
    places = [(i, j) for i in range(rows) for j in range(columns)]
    return x, [(i, j, slice(i, i + high), slice(j, j + wide)) for i, j in places], (rows, columns)


def conv_forward(x, w, pad):
    padded, places, shape = windows(x, w, pad)
    y = np.zeros((len(x), len(w), *shape))
    for i, j, rows, columns in places:
        y[:, :, i, j] = np.einsum("nchw,fchw->nf", padded[:, :, rows, columns], w)
    return y, (x, w, pad)


def conv_backward(dout, cache):
    x, w, pad = cache
    padded, places, _ = windows(x, w, pad)
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j, rows, columns in places:
        g = dout[:, :, i, j]
        dx[:, :, rows, columns] += np.einsum("nf,fchw->nchw", g, w)
        dw += np.einsum("nf,nchw->fchw", g, padded[:, :, rows, columns])
    return dx[:, :, pad:-pad, pad:-pad], dw


keep("convolution", conv_forward, conv_backward, (2, 2, 5, 4), (3, 2, 3, 2), pad=0)

# %% [markdown]
# **Question.** It works with `pad=1`. And with `pad=0`?
#
# <details markdown="1"><summary>Answer</summary>
#
# `dx[0:-0]` is `dx[0:0]`, which is empty. `dx[pad:pad + height]` works for both.
#
# </details>
#
# ## 7 Max pooling


# %%
def pool_forward(x):
    rows, columns = x.shape[2] - 1, x.shape[3] - 1
    y = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            y[:, :, i, j] = x[:, :, i : i + 2, j : j + 2].max(axis=(2, 3))
    return y, x


def pool_backward(dout, x):
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i : i + 2, j : j + 2]
        row, column = np.unravel_index(window.argmax(), window.shape)
        dx[n, c, i + row, j + column] = dout[n, c, i, j]
    return dx


keep("max pooling", pool_forward, pool_backward, (2, 2, 4, 5))

# %% [markdown]
# **Question.** The windows are 2 by 2 and move by 1. When does it go wrong?
#
# <details markdown="1"><summary>Answer</summary>
#
# One element may be the largest of several windows. Their gradients add up: `+=`, not `=`. With
# windows that do not overlap, both are the same.
#
# </details>
#
# ## 8 An embedding


# %%
def embedding_forward(words, w):
    return w[words], (words, w.shape)


def embedding_backward(dout, cache):
    words, shape = cache
    dw = np.zeros(shape)
    dw[words] += dout
    return None, dw  # words have no gradient


sentences = np.array([[0, 2, 1], [2, 2, 3]])
keep("embedding", embedding_forward, embedding_backward, sentences, (4, 3))

# %% [markdown]
# **Question.** It does say `+=`. Does it add?
#
# <details markdown="1"><summary>Answer</summary>
#
# Not for word 2, which is there three times. `dw[words] += dout` reads `dw[words]` once, adds, and
# writes: the last one stays. `np.add.at(dw, words, dout)` adds each.
#
# </details>
#
# ## 9 An RNN


# %%
def rnn_forward(x, h0, wx, wh, b):
    h = np.zeros((len(x), x.shape[1] + 1, len(b)))
    h[:, 0] = h0
    for t in range(x.shape[1]):
        h[:, t + 1] = np.tanh(x[:, t] @ wx + h[:, t] @ wh + b)
    return h[:, 1:], (x, h, wx, wh, b)


def rnn_backward(dout, cache):
    x, h, wx, wh, b = cache
    dx, dwx, dwh, db = (np.zeros_like(each) for each in (x, wx, wh, b))
    for t in reversed(range(x.shape[1])):
        dz = dout[:, t] * (1 - h[:, t + 1] ** 2)
        dx[:, t] = dz @ wx.T
        dh0 = dz @ wh.T
        dwx += x[:, t].T @ dz
        dwh += h[:, t].T @ dz
        db += dz.sum(0)
    return dx, dh0, dwx, dwh, db


keep("RNN", rnn_forward, rnn_backward, (2, 4, 3), (2, 5), (3, 5), (5, 5), (5,))

# %% [markdown]
# **Question.** A state has two uses. Which are they, and which is forgotten?
#
# <details markdown="1"><summary>Answer</summary>
#
# It is an output, and it enters the next step. The second path is missing: `dout[:, t]` needs
# `dz @ wh.T` of step $t + 1$ added. So the gradient of $h_0$ hears of the first step alone.
#
# </details>
#
# ## 10 Cross-entropy


# %%
labels = np.array([1, 0, 3, 2, 1])


def loss_forward(x):
    p = softmax_forward(x)[0]
    return -np.log(p[range(5), labels]).mean(), p


def loss_backward(dout, p):
    dx = p.copy()
    dx[range(5), labels] -= 1
    return dout * dx


keep("cross-entropy", loss_forward, loss_backward, (5, 4))

# %% [markdown]
# **Question.** $p - 1$ at the label, $p$ elsewhere. And now?
#
# <details markdown="1"><summary>Answer</summary>
#
# The loss is a mean over 5 rows, and the gradient has to be one, too: it lacks the factor 1/5.
#
# </details>
#
# ## What the checker says

# %%
for number, (name, (layer, params, x)) in enumerate(tests.items(), start=1):
    report = lf.testing.check_layer(layer, params, x, all=True)
    print(f"{number} {name}")
    for finding in report.mistakes:
        print(f"  {finding.sentence.partition(': ')[2] or finding.sentence}")

# %% [markdown]
# The names of gradients are those of the checker: `dparams.0` is the gradient of the first
# parameter. [What students get wrong](../guides/what-students-get-wrong.md) counts the mistakes of
# published code.
