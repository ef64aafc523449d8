# %% [markdown]
# # What a cache is
#
# Backward needs numbers that forward has computed. The cache is where they are kept. This notebook
# shows what belongs in it, what it costs, and why a layer must not keep it in itself.

# %%
import torch

import lincoln_fn as lf

x = lf.keys.normal(lf.Key(0), (5, 3))

# %% [markdown]
# ## What backward needs
#
# Look at the last line of a derivation. Each name in it that is not $g$ or a parameter belongs in
# the cache.
#
# | layer | backward | cache |
# | --- | --- | --- |
# | $y = 3x$ | $dx = 3g$ | nothing |
# | $y = x^2$ | $dx = 2 g x$ | $x$ |
# | $y = \tanh x$ | $dx = g\,(1 - y^2)$ | $y$ |
# | $y = x w + b$ | $dx = g\, w^T, \quad dw = x^T g$ | $x$ |
#
# For tanh there is a choice: $y$, or $x$ and $dx = g\,(1 - \tanh^2 x)$. With $y$ no tanh is
# computed twice.
#
# **Question.** The derivative of $y = e^x$ is $e^x$. What should the cache be?
#
# <details markdown="1"><summary>Answer</summary>
#
# $y$. Then backward is $dx = g\,y$, one product.
#
# </details>

# %%
exponential = lf.Layer(
    "exponential()",
    forward=lambda params, x: (torch.exp(x), torch.exp(x)),
    backward=lambda params, y, g: (g * y, ()),
)
lf.testing.check_layer(exponential, (), x, all=True)

# %% [markdown]
# ## The wrong number in the cache
#
# Here forward keeps $x$, and backward takes it for $y$. No shape is wrong, so nothing fails. The
# network learns badly, and nobody knows why. The checker does:

# %%
mixed_up = lf.Layer(
    "my_tanh()",
    forward=lambda params, x: (torch.tanh(x), x),
    backward=lambda params, y, g: (g * (1 - y**2), ()),
)
lf.testing.check_layer(mixed_up, (), x, all=True)

# %% [markdown]
# ## Why the layer does not keep it
#
# In many libraries a layer is an object that remembers its last input:


# %%
class RememberingSquare:
    """A layer that keeps its cache in itself."""

    def forward(self, x):
        self.last_input = x
        return x**2

    def backward(self, g):
        return 2 * g * self.last_input


# %% [markdown]
# Now use it twice before going back, as a network does that compares two pictures.
#
# **Question.** What does the object give as the gradient at 3: $2 \cdot 3$ or $2 \cdot 4$?
#
# <details markdown="1"><summary>Answer</summary>
#
# $2 \cdot 4 = 8$. The second call of forward has replaced the first input, so the gradient of the
# first is wrong.
#
# </details>

# %%
layer, one = RememberingSquare(), torch.tensor(1.0)
layer.forward(torch.tensor(3.0))
layer.forward(torch.tensor(4.0))
print("gradient at 3, by the object:  ", layer.backward(one).item())

square = lf.Layer(
    "square()",
    forward=lambda params, x: (x**2, x),
    backward=lambda params, x, g: (2 * g * x, ()),
)
_, first = square.forward((), torch.tensor(3.0))
_, second = square.forward((), torch.tensor(4.0))
print("gradient at 3, by the function:", square.backward((), first, one)[0].item())

# %% [markdown]
# A cache is a value like any other. There can be two of them at once. You decide how long each is
# kept, and you can look inside.

# %%
net = lf.serial(lf.dense(32), lf.tanh(), lf.layer_norm(), lf.dense(4))
x = lf.keys.normal(lf.Key(1), (64, 16))
params = net.init(lf.Key(0), x)
y, caches = net.forward(params, x)
caches

# %% [markdown]
# The cache of a network is a tuple with the cache of each layer. The first dense layer keeps $x$,
# tanh keeps its $y$, and layer norm keeps `x_hat` and `rstd`.
#
# ## What it costs
#
# A cache lives from forward to backward. At the end of forward all caches are in memory together.
# `summary` counts their bytes before anything is computed:

# %%
blocks = [lf.serial(lf.dense(256), lf.tanh()) for _ in range(4)]
deep = lf.serial(*blocks, lf.dense(10))
x = lf.keys.normal(lf.Key(2), (512, 64))
lf.summary(deep, x)

# %% [markdown]
# The dense layers have 0 bytes, because their $x$ is in memory anyway. It is the data, or the $y$
# of the tanh before.
#
# **Question.** The batch has 512 examples. Which columns of the table change if it has 1,024?
#
# <details markdown="1"><summary>Answer</summary>
#
# The output shapes, the bytes of the caches and the multiply-adds: the last two double. The number
# of parameters stays. So a large batch may not fit into memory although the network does.
#
# </details>
#
# ## Keep less, compute more
#
# A cache can be computed again, because forward is pure: the same $x$ gives the same cache.
# `checkpointed` keeps only the input of its part. Its backward calls forward a second time.


# %%
def megabytes(cache):
    once = {leaf.data_ptr(): leaf for leaf in lf.tree.leaves(cache)}
    return sum(leaf.numel() * leaf.element_size() for leaf in once.values()) / 1e6


first, second = lf.serial(*blocks[:2]), lf.serial(*blocks[2:])
lean = lf.serial(lf.checkpointed(first), lf.checkpointed(second), lf.dense(10))
params = deep.init(lf.Key(0), x)
lean_params = (params[:2], params[2:4], params[4])
y, cache = deep.forward(params, x)
lean_y, lean_cache = lean.forward(lean_params, x)
print(f"all kept:         {megabytes(cache):.1f} MB")
print(f"with checkpoints: {megabytes(lean_cache):.1f} MB")

# %% [markdown]
# The gradients are the same, bit for bit:

# %%
g = torch.ones_like(y)
dx, _ = deep.backward(params, cache, g)
lean_dx, _ = lean.backward(lean_params, lean_cache, g)
torch.equal(dx, lean_dx)

# %% [markdown]
# **Question.** Why does `checkpointed` give the same gradient for a layer with dropout, whose mask
# is random?
#
# <details markdown="1"><summary>Answer</summary>
#
# Because the key of the mask is in the parameters. The same parameters give the same mask, so the
# second forward repeats the first.
#
# </details>
