# %% [markdown]
# # Your first backward pass
#
# You know the derivative of $x^2$. That is enough to write a layer, its backward pass and a
# training loop. Each gradient is derived in a line or two, and a checker says whether it is right.

# %%
import torch

import lincoln_fn as lf

# %% [markdown]
# ## What backward computes
#
# A layer computes $y$ from $x$. Behind it come other layers, and at the end there is one number:
# the loss $L$. Training needs to know how $L$ changes with $x$.
#
# The layer does not know what comes behind it, and need not. It is given $g = dL/dy$, which has the
# shape of $y$. It returns $dx = dL/dx$, which has the shape of $x$. This is the chain rule:
#
# $$
# dx_i = \sum_j g_j \frac{\partial y_j}{\partial x_i}
# $$
#
# The sum runs over all numbers $y_j$ that $x_i$ enters.
#
# ## The square
#
# $$
# y_i = x_i^2
# $$
#
# Each $x_i$ enters only $y_i$, so the sum has one term:
#
# $$
# dx_i = g_i \cdot 2 x_i
# $$
#
# Backward needs $x$, so forward returns it beside $y$. What forward keeps for backward is called
# the **cache**.


# %%
def forward(params, x):
    return x**2, x  # y, and the cache


def backward(params, x, g):
    return g * 2 * x, ()  # dx, and the gradients of the parameters: there are none


square = lf.Layer("square()", forward, backward)

# %% [markdown]
# ## Try it
#
# Let the loss be $L = 5 y_0 + 7 y_1$. Then $g = (5, 7)$, whatever $x$ is.
#
# **Question.** What is $dx$ at $x = (3, -1)$?
#
# <details markdown="1"><summary>Answer</summary>
#
# $dx = (5 \cdot 2 \cdot 3,\; 7 \cdot 2 \cdot (-1)) = (30, -14)$.
#
# </details>

# %%
x, g = torch.tensor([3.0, -1.0]), torch.tensor([5.0, 7.0])
y, cache = square.forward((), x)
dx, _ = square.backward((), cache, g)
dx

# %% [markdown]
# ## Check it by hand
#
# A derivative is a slope. So change $x_0$ a little, and look how much $L$ changes:


# %%
def loss(x):
    return (g * square.predict((), x)).sum()


step = torch.tensor([0.01, 0.0])
(loss(x + step) - loss(x - step)) / 0.02

# %% [markdown]
# That is $dx_0$. The same has to be done for each number of $x$, and at random places.
# `check_layer` does it, with more digits. `lf.keys.normal` draws the numbers. The same key always
# draws the same ones.

# %%
batch = lf.keys.normal(lf.Key(0), (5, 3))
lf.testing.check_layer(square, (), batch, all=True)

# %% [markdown]
# ## Make a mistake
#
# The most common mistake is to forget $g$.
#
# **Question.** For which loss would the next `backward` be right?
#
# <details markdown="1"><summary>Answer</summary>
#
# For $L = \sum_i y_i$, because there $g_i = 1$.
#
# </details>

# %%
forgetful = square.replace(backward=lambda params, x, g: (2 * x, ()))
lf.testing.check_layer(forgetful, (), batch, all=True)

# %% [markdown]
# ## A layer with parameters
#
# A dense layer has a weight $w$ and a bias $b$. Number the examples of a batch by $n$, the numbers
# of $x$ by $i$, and those of $y$ by $j$:
#
# $$
# y_{nj} = \sum_i x_{ni} w_{ij} + b_j
# $$
#
# Each $x_{ni}$ enters every $y_{nj}$ of its example, with the factor $w_{ij}$:
#
# $$
# dx_{ni} = \sum_j g_{nj} w_{ij}
# $$
#
# Each $w_{ij}$ enters $y_{nj}$ of every example, with the factor $x_{ni}$. Each $b_j$ does so with
# the factor 1:
#
# $$
# dw_{ij} = \sum_n x_{ni} g_{nj}, \qquad db_j = \sum_n g_{nj}
# $$
#
# The first two sums are matrix products: $dx = g\, w^T$ and $dw = x^T g$.


# %%
def dense_forward(params, x):
    w, b = params
    return x @ w + b, x


def dense_backward(params, x, g):
    w, _ = params
    return g @ w.T, (x.T @ g, g.sum(0))


def dense_init(key, x):
    return lf.keys.normal(key, (x.shape[1], 4)) / x.shape[1] ** 0.5, torch.zeros(4)


dense = lf.Layer("my_dense()", dense_forward, dense_backward, dense_init)
dense_params = dense.init(lf.Key(1), batch)
lf.testing.check_layer(dense, dense_params, batch, all=True)

# %% [markdown]
# **Question.** A batch has 5 examples. You write `g.mean(0)` for $db$. By which factor is it wrong?
#
# <details markdown="1"><summary>Answer</summary>
#
# By 5: a mean is a sum divided by the number of examples. The loss has divided by it already, if
# it is a mean itself. That is why the checker asks whether you averaged where you should sum.
#
# </details>


# %%
def averaged(params, x, g):
    w, _ = params
    return g @ w.T, (x.T @ g, g.mean(0))


averaging = dense.replace(backward=averaged)
lf.testing.check_layer(averaging, dense_params, batch, all=True)

# %% [markdown]
# ## Layers in a row
#
# The $x$ of a layer is the $y$ of the layer before it. So the $dx$ of a layer is the $g$ of the
# layer before it. Backward goes from the last layer to the first, and that is all.

# %%
net = lf.serial(dense, square, lf.dense(1))
x = lf.keys.normal(lf.Key(1), (100, 2))
target = (x[:, :1] * x[:, 1:]) + 1  # what the network is to learn
params = net.init(lf.Key(0), x)

y, (cache_0, cache_1, cache_2) = net.forward(params, x)
g = 2 * (y - target) / len(x)  # of the mean squared error
g, dparams_2 = net.parts[2].backward(params[2], cache_2, g)
g, dparams_1 = net.parts[1].backward(params[1], cache_1, g)
g, dparams_0 = net.parts[0].backward(params[0], cache_0, g)

# %% [markdown]
# `net.backward` does the same in a loop. The picture shows the walk: the size of $y$ from the first
# layer to the last, and the size of $g$ on the way back.

# %%
lf.plots.flow(net, params, x, lf.losses.mse(), target)

# %% [markdown]
# ## Train
#
# Each parameter goes a small step against its gradient. Then $L$ becomes smaller.

# %%
losses = []
for _ in range(400):
    y, cache = net.forward(params, x)
    losses.append(((y - target) ** 2).mean().item())
    _, dparams = net.backward(params, cache, 2 * (y - target) / len(x))
    params = lf.tree.map(lambda p, dp: p - 0.02 * dp, params, dparams)
print(f"the loss goes from {losses[0]:.3f} to {losses[-1]:.6f}")

# %% [markdown]
# **Question.** Why can this small network learn $x_0 x_1$ exactly?
#
# <details markdown="1"><summary>Answer</summary>
#
# Because $x_0 x_1 = \frac14 (x_0 + x_1)^2 - \frac14 (x_0 - x_1)^2$. The first layer can make the
# two sums, the second squares them, and the last subtracts the squares and adds 1.
#
# </details>
#
# Next: what the cache is for.
