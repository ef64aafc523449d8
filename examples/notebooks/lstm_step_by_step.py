# %% [markdown]
# # An LSTM, step by step
#
# An LSTM reads a sequence, one entry at a time, and carries a state $(h, c)$ from step to step.
# This notebook writes one step and its backward pass, then the loop over time. At the end it shows
# how far back a gradient reaches, and which number decides that.

# %%
import torch

import lincoln_fn as lf

# %% [markdown]
# ## One step forward
#
# The input $x$ and the previous $h$ give four vectors of the size of $h$:
#
# $$
# [z_i, z_f, z_g, z_o] = x\, W_{ih} + h\, W_{hh} + b
# $$
#
# Each goes through its own function. $\sigma$ is the sigmoid, so $i$, $f$ and $o$ are numbers
# between 0 and 1. They are **gates**: what they multiply passes, or does not.
#
# $$
# i = \sigma(z_i), \quad f = \sigma(z_f), \quad g = \tanh(z_g), \quad o = \sigma(z_o)
# $$
#
# The new state is called $(h', c')$:
#
# $$
# c' = f\, c + i\, g, \qquad u = \tanh(c'), \qquad h' = o\, u
# $$
#
# In words: $f$ decides what the cell $c$ keeps, $i$ what is written into it, and $o$ what is shown
# of it.
#
# **Question.** What must the gates be so that the cell keeps its value for ever?
#
# <details markdown="1"><summary>Answer</summary>
#
# $f = 1$ and $i = 0$. Then $c' = c$.
#
# </details>


# %%
def step(params, x):
    w_ih, w_hh, b = params
    x, h, c = x
    z_i, z_f, z_g, z_o = (x @ w_ih + h @ w_hh + b).chunk(4, -1)
    i, f, o = torch.sigmoid(z_i), torch.sigmoid(z_f), torch.sigmoid(z_o)
    g = torch.tanh(z_g)
    new_c = f * c + i * g
    u = torch.tanh(new_c)
    return (o * u, new_c), (x, h, c, i, f, g, o, u)


# %% [markdown]
# ## One step back
#
# The letter $g$ is taken: it is a gate. So the gradients that arrive are called $dh'$ and $dc'$.
#
# $h' = o\, u$ with $u = \tanh(c')$. So $c'$ is used twice: in the next step, and in $h'$. Both ways
# add up to the whole gradient of $c'$, which is called $\delta$:
#
# $$
# \delta = dc' + dh'\, o\, (1 - u^2)
# $$
#
# From here each product gives its factors:
#
# $$
# do = dh'\, u, \qquad df = \delta\, c, \qquad di = \delta\, g, \qquad dg = \delta\, i,
# \qquad dc = \delta\, f
# $$
#
# Then come the functions of the gates, with $\sigma' = \sigma\,(1 - \sigma)$ and
# $\tanh' = 1 - \tanh^2$:
#
# $$
# dz = [\, di\; i\,(1 - i),\;\; df\; f\,(1 - f),\;\; dg\,(1 - g^2),\;\; do\; o\,(1 - o)\,]
# $$
#
# And last the matrix products, as in a dense layer with two inputs:
#
# $$
# dx = dz\, W_{ih}^T, \quad dh = dz\, W_{hh}^T, \quad
# dW_{ih} = x^T dz, \quad dW_{hh} = h^T dz, \quad db = \textstyle\sum dz
# $$


# %%
def step_backward(params, cache, dy):
    w_ih, w_hh, _ = params
    x, h, c, i, f, g, o, u = cache
    dh, dc = dy
    delta = dc + dh * o * (1 - u**2)
    do, df, di, dg = dh * u, delta * c, delta * g, delta * i
    dz_i, dz_f = di * i * (1 - i), df * f * (1 - f)
    dz_g, dz_o = dg * (1 - g**2), do * o * (1 - o)
    dz = torch.cat([dz_i, dz_f, dz_g, dz_o], -1)
    return (dz @ w_ih.T, dz @ w_hh.T, delta * f), (x.T @ dz, h.T @ dz, dz.sum(0))


n_in, hidden = 3, 4
key = lf.Key(0)
library = lf.lstm(hidden)
x = lf.keys.normal(key, (5, 7, n_in))  # batch, length, features
cell = library.init(key, x).cells[0][0]
params = (cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh)
h, c = lf.keys.normal(lf.Key(1), (2, 5, hidden))
lstm_step = lf.Layer("lstm_step()", step, step_backward)
lf.testing.check_layer(lstm_step, params, (x[:, 0], h, c), all=True)

# %% [markdown]
# ## The loop over time
#
# Forward calls the step for each entry, and keeps all caches. $y_t$ is $h'$ of step $t$.
#
# Backward goes from the last step to the first. Two things are easily forgotten:
#
# - $h'$ of step $t$ is the output $y_t$, and also an input of step $t + 1$. The gradients of both
#   add up.
# - All steps use the same parameters. Their gradients add up.


# %%
def forward(params, x):
    h = c = x.new_zeros(len(x), len(params[1]))
    y, caches = [], []
    for t in range(x.shape[1]):
        (h, c), cache = step(params, (x[:, t], h, c))
        y.append(h)
        caches.append(cache)
    return torch.stack(y, 1), tuple(caches)


def backward(params, caches, g):
    dh = dc = torch.zeros_like(g[:, 0])
    dx, dparams = [], lf.tree.map(torch.zeros_like, params)
    for t in reversed(range(len(caches))):
        dy = dh + g[:, t], dc
        (dx_t, dh, dc), dparams_t = step_backward(params, caches[t], dy)
        dx.insert(0, dx_t)
        dparams = lf.tree.map(torch.add, dparams, dparams_t)
    return torch.stack(dx, 1), dparams


lstm = lf.Layer("my_lstm()", forward, backward)
lf.testing.check_layer(lstm, params, x, all=True)

# %% [markdown]
# The library's own layer computes the same numbers:

# %%
y = lstm.predict(params, x)
torch.allclose(y, library.predict(library.init(key, x), x), atol=1e-6)

# %% [markdown]
# ## Two mistakes
#
# The first forgets that $h'$ goes on to the next step. The second keeps the gradients of only one
# step. That is the first step of the sequence, which comes last on the way back. Its $h$ is 0, so
# $dW_{hh}$ is 0, too.
#
# **Question.** With which length of the sequence would both be right?
#
# <details markdown="1"><summary>Answer</summary>
#
# With length 1: there is no next step, and only one gradient. A test with such a sequence finds
# neither mistake.
#
# </details>


# %%
def no_path(params, caches, g):
    dc = torch.zeros_like(g[:, 0])
    dx, dparams = [], lf.tree.map(torch.zeros_like, params)
    for t in reversed(range(len(caches))):
        (dx_t, _, dc), dparams_t = step_backward(params, caches[t], (g[:, t], dc))
        dx.insert(0, dx_t)
        dparams = lf.tree.map(torch.add, dparams, dparams_t)
    return torch.stack(dx, 1), dparams


lf.testing.check_layer(lstm.replace(backward=no_path), params, x, all=True)


# %%
def overwritten(params, caches, g):
    dh = dc = torch.zeros_like(g[:, 0])
    dx = []
    for t in reversed(range(len(caches))):
        dy = dh + g[:, t], dc
        (dx_t, dh, dc), dparams = step_backward(params, caches[t], dy)
        dx.insert(0, dx_t)
    return torch.stack(dx, 1), dparams


lf.testing.check_layer(lstm.replace(backward=overwritten), params, x, all=True)

# %% [markdown]
# ## How far back a gradient reaches
#
# Look at $dc = \delta\, f$. For each step back, the gradient of the cell is multiplied by the
# forget gate. After $T$ steps it has the factor $f^T$.
#
# **Question.** A sequence has 20 steps. How much is left with $f = 0.5$, and how much with
# $f = 0.95$?
#
# <details markdown="1"><summary>Answer</summary>
#
# $0.5^{20}$ is about 0.000001, and $0.95^{20}$ is about 0.36.
#
# </details>
#
# The picture shows $\partial y / \partial x$ of one sequence: a row for each number of $y$, a
# column for each number of $x$. Above the staircase everything is 0, because no output depends on a
# later input. Below it the colours fade.

# %%
one = x[:1]
lf.plots.jacobian(lstm, params, one)

# %% [markdown]
# Now add 3 to the bias of the forget gate. Then $f$ is near $\sigma(3) = 0.95$:

# %%
forget = torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(hidden)
remembering = (*params[:2], params[2] + 3 * forget)
lf.plots.jacobian(lstm, remembering, one)


# %%
def share_of_the_first(params):
    _, caches = lstm.forward(params, one)
    g = torch.zeros(1, 7, hidden)
    g[:, -1] = 1  # only the last output counts
    dx, _ = lstm.backward(params, caches, g)
    return (dx[0, 0].norm() / dx[0, -1].norm()).item()


print("gradient of the first input, divided by that of the last")
print(f"as it is:       {share_of_the_first(params):.3f}")
print(f"remembering:    {share_of_the_first(remembering):.3f}")

# %% [markdown]
# That is why many people start the bias of the forget gate at 1: at the beginning of training, the
# network remembers.
