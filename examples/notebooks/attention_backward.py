# %% [markdown]
# # Attention backward
#
# Attention is two matrix products with a softmax between them. So is its backward pass: five lines,
# each of which you know from a simpler layer.

# %%
import torch

import lincoln_fn as lf

# %% [markdown]
# ## Forward
#
# There are three inputs. Each query asks a question, each key says what is to be found at its
# place, and each value is what is found there.
#
# Query $i$ has one score for each key $j$. A softmax turns the scores of a query into weights,
# which are positive and add up to 1. The output is the mean of the values by these weights:
#
# $$
# \begin{aligned}
# \mathrm{scores}_{ij} &= \mathrm{scale} \textstyle\sum_e \mathrm{query}_{ie}\, \mathrm{key}_{je} \\
# \mathrm{weights}_{ij} &= e^{\mathrm{scores}_{ij}} / \textstyle\sum_n e^{\mathrm{scores}_{in}} \\
# y_{if} &= \textstyle\sum_j \mathrm{weights}_{ij}\, \mathrm{value}_{jf}
# \end{aligned}
# $$
#
# $\mathrm{scale}$ is $1 / \sqrt d$, where $d$ is the number of features of a query.
#
# **Question.** There are 6 queries, 5 keys and 5 values. A query has 3 features, a value has 2.
# What are the shapes of the weights and of $y$?
#
# <details markdown="1"><summary>Answer</summary>
#
# The weights are (6, 5), one for each query and key. $y$ is (6, 2): for each query a mean of
# values.
#
# </details>


# %%
def forward(params, x):
    query, key, value = x
    scale = query.shape[-1] ** -0.5
    scores = scale * query @ key.mT
    weights = torch.softmax(scores, -1)
    return weights @ value, (query, key, value, weights, scale)


# %% [markdown]
# ## Backward
#
# Go through the three lines from the last to the first.
#
# The last is a matrix product, $y = \mathrm{weights}\; \mathrm{value}$. The gradient of a factor is
# $g$ times the other factor, transposed:
#
# $$
# \mathrm{dvalue} = \mathrm{weights}^T g, \qquad \mathrm{dweights} = g\; \mathrm{value}^T
# $$
#
# The second is a softmax of each row. A score changes all weights of its row, because they must add
# up to 1:
#
# $$
# \mathrm{dscores}_{ij} = \mathrm{weights}_{ij} \left( \mathrm{dweights}_{ij}
#   - \textstyle\sum_n \mathrm{dweights}_{in}\, \mathrm{weights}_{in} \right)
# $$
#
# The first is a matrix product again, $\mathrm{scores} = \mathrm{scale}\; \mathrm{query}\;
# \mathrm{key}^T$:
#
# $$
# \mathrm{dquery} = \mathrm{scale}\; \mathrm{dscores}\; \mathrm{key}, \qquad
# \mathrm{dkey} = \mathrm{scale}\; \mathrm{dscores}^T\, \mathrm{query}
# $$


# %%
def backward(params, cache, g):
    query, key, value, weights, scale = cache
    dvalue = weights.mT @ g
    dweights = g @ value.mT
    dscores = weights * (dweights - (dweights * weights).sum(-1, keepdim=True))
    dquery = scale * dscores @ key
    dkey = scale * dscores.mT @ query
    return (dquery, dkey, dvalue), ()


attention = lf.Layer("my_attention()", forward, backward)
keys = lf.Key(0).split(3)
query = lf.keys.normal(keys[0], (2, 6, 3))  # batch, length, features
key = lf.keys.normal(keys[1], (2, 5, 3))
value = lf.keys.normal(keys[2], (2, 5, 4))
x = query, key, value
lf.testing.check_layer(attention, (), x, all=True)

# %% [markdown]
# All three gradients are right. The lengths, and the features of query and value, are chosen to
# differ. If they were equal, `dkey` and `dquery` could be swapped, and no shape would be wrong.
#
# ## Three mistakes
#
# The sum of softmax is left out: every score is taken to change its own weight only.


# %%
def no_sum(params, cache, g):
    query, key, value, weights, scale = cache
    dscores = weights * (g @ value.mT)
    return (scale * dscores @ key, scale * dscores.mT @ query, weights.mT @ g), ()


lf.testing.check_layer(attention.replace(backward=no_sum), (), x, all=True)

# %% [markdown]
# The scale is forgotten on the way back. Both gradients are too large by $\sqrt 3$.


# %%
def no_scale(params, cache, g):
    (dquery, dkey, dvalue), _ = backward(params, (*cache[:4], 1.0), g)
    return (dquery, dkey, dvalue), ()


lf.testing.check_layer(attention.replace(backward=no_scale), (), x, all=True)

# %% [markdown]
# `dquery` and `dkey` are swapped. Here the lengths are equal, so no shape tells.


# %%
def swapped(params, cache, g):
    (dquery, dkey, dvalue), _ = backward(params, cache, g)
    return (dkey, dquery, dvalue), ()


equal = tuple(lf.keys.normal(key, (2, 5, 3)) for key in keys)
lf.testing.check_layer(attention.replace(backward=swapped), (), equal, all=True)

# %% [markdown]
# ## Causal attention
#
# A text is read from left to right. So query $i$ may see only the keys 0 to $i$. The other scores
# are set to $-\infty$ before the softmax, and their weights become 0.
#
# **Question.** What has to change in backward?
#
# <details markdown="1"><summary>Answer</summary>
#
# Nothing. Where a weight is 0, $\mathrm{dscores}$ is 0, too, because the weight is its factor.
#
# </details>


# %%
def causal_forward(params, x):
    query, key, value = x
    scale = query.shape[-1] ** -0.5
    later = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).triu(1)
    scores = (scale * query @ key.mT).masked_fill(later, -torch.inf)
    weights = torch.softmax(scores, -1)
    return weights @ value, (query, key, value, weights, scale)


causal = lf.Layer("my_causal_attention()", causal_forward, backward)
lf.testing.check_layer(causal, (), equal, all=True)

# %% [markdown]
# The picture shows $\partial y / \partial x$ for one sequence of 5 entries with 2 features. The
# columns are those of the query, of the key, and of the value.
#
# **Question.** The first row block, of $y_0$, is empty but for its own value. Why?
#
# <details markdown="1"><summary>Answer</summary>
#
# Query 0 sees only key 0, so its weight is 1, whatever the scores are. No query and no key can
# change it, and $y_0$ is $\mathrm{value}_0$.
#
# </details>

# %%
small = tuple(lf.keys.normal(key, (5, 2)) for key in keys)
lf.plots.jacobian(causal, (), small)

# %% [markdown]
# ## What the scale is for
#
# A score is a sum of $d$ products. If query and key have variance 1, the score has variance $d$.
# Large scores make one weight nearly 1 and the others nearly 0. Then
# $\mathrm{weights}_{ij} (1 - \mathrm{weights}_{ij})$ is nearly 0, and no gradient reaches query and
# key.
#
# The table shows the size of $\mathrm{dscores}$, which every gradient of query and key has as a
# factor:


# %%
def size_of_dscores(scale, d):
    query, key = (lf.keys.normal(key, (64, d)) for key in keys[:2])
    weights = torch.softmax(scale * query @ key.mT, -1)
    dweights = lf.keys.normal(keys[2], (64, 64))
    dscores = weights * (dweights - (dweights * weights).sum(-1, keepdim=True))
    return dscores.norm().item()


print("    d   scale 1   scale 1/sqrt(d)")
for d in (4, 64, 1024, 16384):
    plain, scaled = size_of_dscores(1, d), size_of_dscores(d**-0.5, d)
    print(f"{d:5}   {plain:7.3f}   {scaled:15.3f}")

# %% [markdown]
# With the scale the size is about the same for every $d$. Without it, the gradient becomes smaller
# and smaller.
#
# ## The library's layer
#
# It adds masks of other kinds. The gradients are those above:

# %%
library = lf.scaled_dot_product_attention(is_causal=True)
g = lf.keys.normal(lf.Key(2), (2, 5, 3))
ours, _ = causal.backward((), causal.forward((), equal)[1], g)
theirs, _ = library.backward((), library.forward((), equal)[1], g)
pairs = zip(ours, theirs, strict=True)
[torch.allclose(mine, other, atol=1e-6) for mine, other in pairs]
