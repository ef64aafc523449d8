"""Samplers: pure functions (logits, key) -> token, which choose what a network writes next.

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
Text: TypeAlias = Int64[Tensor, "*batch length"]


def _unchanged(logits: Logits) -> Logits:
    return logits


@attrs.frozen(repr=False)
class Sampler:
    """A function (logits, key) -> token.

    Args:
        name: the code that makes it. Samplers of one name are equal.
        filter: logits -> logits, -inf for the tokens that are left out.
        reads_text: whether the filter is (logits, text) -> logits, with the ids of the text so far,
            (batch, length), and -1 in front of its first token.
        draws: whether a token is drawn from the softmax; if not, it is the most probable one.
    """

    name: str
    filter: Callable[..., Logits] = attrs.field(default=_unchanged, eq=False)
    draws: bool = True
    reads_text: bool = False

    def __call__(self, logits: Logits, key: Key, text: Text | None = None) -> Tokens:
        """Choose a token."""
        logits = self.filtered(logits, text)
        if self.draws:
            uniform = keys.uniform(key.near(logits), tuple(logits.shape), dtype=torch.float64)
            logits = logits - torch.log(-torch.log(uniform.clamp(min=2.0**-60)))
        return logits.argmax(-1)

    def filtered(self, logits: Logits, text: Text | None) -> Logits:
        """Change the logits, by the text if the filter reads it."""
        return self.filter(logits, text) if self.reads_text else self.filter(logits)

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


def _penalise(logits: Logits, text: Text, *, penalty: float) -> Logits:
    """Divide positive logits of the text's tokens by the penalty, and multiply negative ones."""
    n = logits.shape[-1]
    # A last column is for what has no logit: the places before the text.
    place = text.where((text >= 0) & (text < n), n)
    seen = logits.new_zeros(*logits.shape[:-1], n + 1, dtype=torch.bool)
    seen = seen.scatter(-1, place, True)[..., :n]
    less = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, less, logits)


@constructor
def repetition_penalty(penalty: Positive) -> Sampler:
    """Draw a token, where those that the prompt or the text has already are less probable.

    Args:
        penalty: 1.2, for instance: it divides their logits that are positive, and multiplies those
            that are negative. 1 for none, less than 1 to favour repetition.

    Source:
        Keskar and others, "CTRL: A Conditional Transformer Language Model for Controllable
        Generation", 2019, section 4.1.

    Example:
        >>> logits, text = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[0, 1]])
        >>> repetition_penalty(2.0).filter(logits, text)
        tensor([[ 1., -4.,  1.]])
    """
    return bare(Sampler, _penalise, reads_text=True)


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
    draws, reads = (each.draws for each in samplers), (each.reads_text for each in samplers)
    return Sampler(name, partial(_filter_in_turn, samplers), all(draws), any(reads))


def _filter_in_turn(
    samplers: tuple[Sampler, ...], logits: Logits, text: Text | None = None
) -> Logits:
    return reduce(lambda filtered, each: each.filtered(filtered, text), samplers, logits)
