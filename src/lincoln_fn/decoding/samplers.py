"""Samplers: pure functions (logits, key) -> token, which choose what a network writes next.

    temperature, top_k, top_p, min_p     change the logits, and draw from their softmax
    greedy                               the most probable token
    chain(temperature(0.7), top_p(0.9))  several, one after the other

logits have the shape (batch, vocabulary), and tokens (batch,). A filter gives -inf to the tokens
that it leaves out. A draw is the largest of the logits plus Gumbel noise,

    token = argmax_v (logits_v - log(-log u_v))    with u_v uniform in (0, 1)

which has the probabilities of softmax(logits).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import TypeAlias

import attrs
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Positive, PositiveInt, Probability, bare, constructor, keys
from lincoln_fn.layers.common.normalisation import widened

Logits: TypeAlias = Float[Tensor, "*batch vocabulary"]
Tokens: TypeAlias = Int64[Tensor, "*batch"]


def _unchanged(logits: Logits) -> Logits:
    return logits


@attrs.frozen(repr=False)
class Sampler:
    """A function (logits, key) -> token.

    Args:
        name: the code that makes it. Samplers of one name are equal.
        filter: logits -> logits, -inf for the tokens that are left out.
        draws: whether a token is drawn from the softmax; if not, it is the most probable one.
    """

    name: str
    filter: Callable[[Logits], Logits] = attrs.field(default=_unchanged, eq=False)
    draws: bool = True

    def __call__(self, logits: Logits, key: Key) -> Tokens:
        """Choose a token."""
        logits = self.filter(logits)
        if self.draws:
            uniform = keys.uniform(key.near(logits), tuple(logits.shape), dtype=torch.float64)
            logits = logits - torch.log(-torch.log(uniform.clamp(min=2.0**-60)))
        return logits.argmax(-1)

    def __repr__(self) -> str:
        return self.name


def greedy() -> Sampler:
    """Choose the most probable token, the first of several.

    Example:
        >>> greedy()(torch.tensor([[0.0, 3.0, 1.0]]), lf.Key(0))
        tensor([1])
    """
    return Sampler("greedy()", draws=False)


def _divide(logits: Logits, *, t: float) -> Logits:
    return logits / t


@constructor
def temperature(t: Positive = 1.0) -> Sampler:
    """Draw from softmax(logits / t).

    Args:
        t: 1 for the network's own probabilities; less for more probable tokens, more for others.

    Example:
        >>> temperature(0.1)(torch.tensor([[0.0, 3.0, 1.0]]), lf.Key(0))
        tensor([1])
    """
    return bare(Sampler, _divide)


def _keep_k(logits: Logits, *, k: int) -> Logits:
    """Keep the k largest, the first of those that are equal."""
    k = min(k, logits.shape[-1])
    least = logits.topk(k).values[..., -1:]
    is_above, is_least = ~(logits <= least), logits == least  # nan is above all
    room = k - is_above.sum(-1, keepdim=True)
    is_kept = is_above | (is_least & (is_least.cumsum(-1) <= room))
    return logits.masked_fill(~is_kept, -math.inf)


@constructor
def top_k(k: PositiveInt) -> Sampler:
    """Draw one of the k most probable tokens; of equally probable ones, the first are kept.

    Source:
        Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation", 2018.

    Example:
        >>> top_k(2).filter(torch.tensor([[0.0, 3.0, 1.0]]))
        tensor([[-inf, 3., 1.]])
    """
    return bare(Sampler, _keep_k)


def _keep_p(logits: Logits, *, p: float) -> Logits:
    """Leave out, from the least probable on, tokens that have at most 1 - p together."""
    ordered, order = logits.sort(-1)
    below = ordered.softmax(-1).cumsum(-1) <= 1 - p
    below = torch.cat([below[..., :-1], torch.zeros_like(below[..., -1:])], -1)
    return logits.masked_fill(torch.empty_like(below).scatter(-1, order, below), -math.inf)


@constructor
def top_p(p: Probability) -> Sampler:
    """Draw one of the most probable tokens, which together have a probability of p or more.

    Args:
        p: 0.9, for instance; the most probable token is always among them.

    Source:
        Holtzman and others, "The Curious Case of Neural Text Degeneration", 2020.

    Example:
        >>> top_p(0.9).filter(torch.tensor([[0.0, 3.0, 2.0]]))
        tensor([[-inf, 3., 2.]])
    """
    return bare(Sampler, _keep_p)


def _keep_min_p(logits: Logits, *, p: float) -> Logits:
    """Leave out what has less than p times the greatest probability."""
    # The bound is in float32 at least: near 100, bfloat16 has steps of 0.5.
    largest = widened(logits.amax(-1, keepdim=True))
    least = largest + (math.log(p) if p else -math.inf)
    return logits.masked_fill(logits < least, -math.inf)


@constructor
def min_p(p: Probability) -> Sampler:
    """Draw one of the tokens with at least p times the probability of the most probable one.

    Args:
        p: 0.05, for instance. Where the network is sure, few tokens are left; else many.

    Source:
        Nguyen and others, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM
        Outputs", 2025.

    Example:
        >>> min_p(0.1).filter(torch.tensor([[0.0, 3.0, 1.0]]))
        tensor([[-inf, 3., 1.]])
    """
    return bare(Sampler, _keep_min_p)


@core.checked
def chain(*samplers: Sampler) -> Sampler:
    """Apply the filters of several samplers, first to last, and then choose a token.

    Args:
        *samplers: at least one. A token is drawn, unless one of them is `greedy`.

    Example:
        >>> chain(temperature(0.7), top_k(50), top_p(0.9))
        chain(temperature(t=0.7), top_k(50), top_p(0.9))
    """
    core.require(len(samplers) > 0, "chain", "at least one of samplers", samplers)
    name = f"chain({', '.join(sampler.name for sampler in samplers)})"
    filters = tuple(sampler.filter for sampler in samplers)
    return Sampler(name, partial(_filter_in_turn, filters), all(each.draws for each in samplers))


def _filter_in_turn(filters: tuple[Callable[[Logits], Logits], ...], logits: Logits) -> Logits:
    return reduce(lambda filtered, each: each(filtered), filters, logits)
