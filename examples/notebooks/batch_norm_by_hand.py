# %% [markdown]
# # Batch norm by hand
#
# Batch norm shifts and scales each feature, so that over a batch its mean is 0 and its variance 1.
# The forward pass takes five lines. The backward pass takes three, and is where many people give
# up. This notebook derives them.

# %%
import torch

import lincoln_fn as lf

x = lf.keys.normal(lf.Key(0), (5, 3))

# %% [markdown]
# ## Forward
#
# Look at one feature. Its values in a batch of $M$ examples are $x_1, \dots, x_M$.
#
# $$
# \begin{aligned}
# \mathrm{mean} &= \tfrac1M \textstyle\sum_j x_j \\
# \mathrm{var} &= \tfrac1M \textstyle\sum_j (x_j - \mathrm{mean})^2 \\
# \mathrm{rstd} &= 1 / \sqrt{\mathrm{var} + \varepsilon} \\
# \hat x_j &= (x_j - \mathrm{mean})\, \mathrm{rstd} \\
# y_j &= \hat x_j\, w + b
# \end{aligned}
# $$
#
# ## Backward, the easy part
#
# The last line has $w$, $b$ and $\hat x$. Each is a factor or a term of every $y_j$:
#
# $$
# dw = \sum_j g_j \hat x_j, \qquad db = \sum_j g_j, \qquad d\hat x_j = g_j w
# $$
#
# ## Backward, the hard part
#
# One $x_k$ changes every $\hat x_j$, in three ways: directly, through the mean, and through
# $\mathrm{rstd}$.
#
# $$
# \begin{aligned}
# \frac{\partial\, \mathrm{mean}}{\partial x_k} &= \frac1M \\
# \frac{\partial\, \mathrm{var}}{\partial x_k} &= \frac2M (x_k - \mathrm{mean}) \\
# \frac{\partial\, \mathrm{rstd}}{\partial x_k}
#   &= -\frac12 \mathrm{rstd}^3\, \frac{\partial\, \mathrm{var}}{\partial x_k}
#    = -\frac1M \mathrm{rstd}^2\, \hat x_k
# \end{aligned}
# $$
#
# **Question.** The mean is part of the variance, too. Where is its term in the second line?
#
# <details markdown="1"><summary>Answer</summary>
#
# It is $-\frac2M \sum_j (x_j - \mathrm{mean}) \cdot \frac1M$, and the sum is 0: the distances from
# a mean add up to nothing.
#
# </details>
#
# With $\delta_{jk} = 1$ where $j = k$, else 0, the three ways together are
#
# $$
# \frac{\partial \hat x_j}{\partial x_k}
#   = \mathrm{rstd} \left( \delta_{jk} - \frac1M - \frac1M \hat x_j \hat x_k \right)
# $$
#
# Multiply by $d\hat x_j$ and sum over $j$. Each sum divided by $M$ is a mean:
#
# $$
# dx_k = \mathrm{rstd} \left( d\hat x_k - \mathrm{mean}(d\hat x)
#   - \hat x_k\, \mathrm{mean}(d\hat x\, \hat x) \right)
# $$
#
# ## Code
#
# The code has one line for each line above.


# %%
def forward(params, x):
    w, b = params
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    rstd = 1 / torch.sqrt(var + 1e-5)
    x_hat = (x - mean) * rstd
    return x_hat * w + b, (x_hat, rstd)


def backward(params, cache, g):
    w, _ = params
    x_hat, rstd = cache
    dw, db = (g * x_hat).sum(0), g.sum(0)
    dx_hat = g * w
    dx = rstd * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))
    return dx, (dw, db)


batch_norm = lf.Layer("my_batch_norm()", forward, backward)
params = (torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.0, 1.0, 3.0]))
lf.testing.check_layer(batch_norm, params, x, all=True)

# %% [markdown]
# It is right. The library's own layer gives the same numbers:


# %%
g = lf.keys.normal(lf.Key(1), (5, 3))
library = lf.batch_norm(track_running_stats=False)
library_params = library.init(lf.Key(0), x)
library_params = lf.evolve(library_params, weight=params[0], bias=params[1])


def input_gradient(layer, params):
    _, cache = layer.forward(params, x)
    return layer.backward(params, cache, g)[0]


dx = input_gradient(batch_norm, params)
torch.allclose(dx, input_gradient(library, library_params), atol=1e-6)

# %% [markdown]
# ## The classic mistake
#
# Batch norm only shifts and scales. So it is tempting to treat the mean and `rstd` as constants.


# %%
def constant(params, cache, g):
    w, _ = params
    x_hat, rstd = cache
    return g * w * rstd, ((g * x_hat).sum(0), g.sum(0))


lf.testing.check_layer(batch_norm.replace(backward=constant), params, x, all=True)

# %% [markdown]
# ## Which numbers depend on which
#
# The picture shows $\partial y / \partial x$. A row is a number of $y$, a column a number of $x$.
# The thin lines separate the examples.
#
# **Question.** In the picture of a layer that treats each example alone, which blocks are empty?
# Which are not, here?
#
# <details markdown="1"><summary>Answer</summary>
#
# All blocks off the diagonal would be empty. Here every block has a diagonal: feature 0 of an
# example changes feature 0 of every other example, and no other feature.
#
# </details>

# %%
lf.plots.jacobian(batch_norm, params, x)

# %% [markdown]
# ## What is left of the gradient
#
# Batch norm takes the mean and the scale away from $x$. So a shift of the whole batch does not
# change $y$, and neither does a scale. In these two directions the gradient must be 0.
#
# **Question.** Which two sums over the batch are therefore 0?
#
# <details markdown="1"><summary>Answer</summary>
#
# $\sum_k dx_k$, the direction of a shift, and $\sum_k dx_k \hat x_k$, that of a scale. The second
# is 0 only up to $\varepsilon$.
#
# </details>

# %%
_, (x_hat, _) = batch_norm.forward(params, x)
print("a shift:", (dx.sum(0).abs() < 1e-5).tolist())
print("a scale:", ((dx * x_hat).sum(0).abs() < 1e-3).tolist())

# %% [markdown]
# The two means in the last line of the derivation do just that. They take out of $d\hat x$ what
# points in these two directions.
#
# ## After training
#
# A single example has no variance. So after training the layer uses running averages of mean and
# variance, which `advance` updates after each step:
#
# $$
# \mathrm{new} = (1 - \mathrm{momentum})\, \mathrm{old} + \mathrm{momentum} \cdot \mathrm{batch}
# $$

# %%
layer = lf.batch_norm()
params = layer.init(lf.Key(0), x)
for i in range(100):
    batch = 3 + 2 * lf.keys.normal(lf.Key(i), (64, 3))  # mean 3, variance 4
    _, cache = layer.forward(params, batch)
    params = layer.advance(params, cache)
params.running

# %% [markdown]
# `predict` uses them. It treats each example alone, so now the blocks off the diagonal are empty:

# %%
frozen = lf.inference(layer)
lf.plots.jacobian(frozen, params, x)
