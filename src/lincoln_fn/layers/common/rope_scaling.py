"""Frequencies of rotary positions, for sequences that are longer than those of the first training.

`lf.rotary_embedding(500_000.0, scaling=lf.rope_scaling.llama3(8.0, 8192))` has those of Llama 3.1.

Rotary positions turn pair i of n features by position t times the frequency f_i:

    f_i = theta^(-2 i / n)    for i = 0, ..., n/2 - 1

A scaling lowers frequencies, so that more positions have angles that the network has seen. The
names are those of the `rope_type` in the configurations of Hugging Face's transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import NOT_EMPTY, Made, Positive, PositiveInt, bare, constructor, require


@attrs.frozen(eq=False, repr=False)
class RopeScaling(Made):
    """How the frequencies of rotary positions are made.

    Args:
        name: the code that makes it; its repr.
        frequencies: (theta, n, length) -> frequencies, for n features. The length is a floating
            tensor, the number of positions of each sequence, with a last axis of size 1 or none;
            the frequencies have n / 2 in its place.
        attention_factor: a factor of the rotated features.

    Example:
        >>> def halved(theta, n, length):
        ...     return unscaled(theta, n, length) / 2
        >>> RopeScaling("halved()", halved)
        halved()
    """

    name: str
    frequencies: Callable[[float, int, Tensor], Tensor]
    attention_factor: float = 1.0


def unscaled(theta: float | Tensor, n: int, length: Tensor) -> Tensor:
    """Compute f_i = theta^(-2 i / n), in the dtype and on the device of `length`.

    Example:
        >>> unscaled(100.0, 4, torch.zeros(()))
        tensor([1.0000, 0.1000])
    """
    i = torch.arange(n // 2, dtype=length.dtype, device=length.device)
    return theta ** (-2 * i / n)


def _linear(theta: float, n: int, length: Tensor, *, factor: float) -> Tensor:
    return unscaled(theta, n, length) / factor


@constructor
def linear(factor: Positive) -> RopeScaling:
    """Divide all frequencies: f_i / factor, for sequences of up to factor times the length.

    Source: Chen, Wong, Chen and Tian, "Extending Context Window of Large Language Models via
    Positional Interpolation", 2023.

    Example:
        >>> linear(2.0).frequencies(100.0, 4, torch.tensor(9.0))
        tensor([0.5000, 0.0500])
    """
    return bare(RopeScaling, _linear)


def _dynamic(
    theta: float, n: int, length: Tensor, *, factor: float, max_position_embeddings: int
) -> Tensor:
    ratio = length.clamp(min=max_position_embeddings) / max_position_embeddings
    larger = theta * (factor * ratio - (factor - 1)) ** (n / max(n - 2, 1))
    return unscaled(larger, n, length)


@constructor
def dynamic(factor: Positive, max_position_embeddings: PositiveInt) -> RopeScaling:
    """Enlarge theta with the length T of the sequence, once it exceeds M positions.

        theta' = theta (factor max(T, M) / M - factor + 1)^(n / (n - 2))

    M is max_position_embeddings, the length of the first training. It is called NTK-aware, because
    it lowers high frequencies less than low ones. Source: emozilla, "Dynamically Scaled RoPE
    further increases performance of long context LLaMA with zero fine-tuning", 2023.

    Example:
        >>> made = dynamic(2.0, 8)
        >>> [made.frequencies(100.0, 4, torch.tensor(t))[1].item() for t in (5.0, 8.0, 16.0)]
        [0.10000000149011612, 0.10000000149011612, 0.03333333507180214]
    """
    return bare(RopeScaling, _dynamic)


def _yarn(
    theta: float, n: int, length: Tensor, *, factor: float, original_max_position_embeddings: int,
    beta_fast: float, beta_slow: float, truncate: bool,
) -> Tensor:  # fmt: skip
    require(theta > 1, "yarn", "theta above 1", theta)

    def pair_that_turns(times: float) -> float:
        period = original_max_position_embeddings / (times * 2 * math.pi)
        return n * math.log(period) / (2 * math.log(theta))

    low, high = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, n - 1)
    own = unscaled(theta, n, length)
    i = torch.arange(n // 2, dtype=own.dtype, device=own.device)
    share = ((i - low) / ((high - low) or 0.001)).clamp(0, 1)
    return own * (1 - share) + own / factor * share


@constructor
def yarn(
    factor: Positive, original_max_position_embeddings: PositiveInt, *, beta_fast: Positive = 32.0,
    beta_slow: Positive = 1.0, attention_factor: Positive | None = None,
    mscale: Positive | None = None, mscale_all_dim: Positive | None = None, truncate: bool = True,
) -> RopeScaling:  # fmt: skip
    """Divide low frequencies, keep high ones, and pass from one to the other by a ramp.

    Pair i turns T f_i / (2 pi) times in T positions of the first training. Pairs that turn at least
    beta_fast times keep their frequency; it is divided by factor where they turn at most beta_slow
    times. Between them, the share of the divided frequency grows linearly with i. Source: Peng,
    Quesnelle, Fan and Shippole, "YaRN: Efficient Context Window Extension of Large Language
    Models", 2023, section 3.

    Args:
        factor: how many times as long sequences may be.
        original_max_position_embeddings: T, the length of the first training.
        attention_factor: a factor of the rotated features; None for the paper's m(factor, 1) with
            m(s, k) = 1 + 0.1 k ln s, or 1 where s is at most 1.
        mscale: with mscale_all_dim, the attention factor is m(factor, mscale) / m(factor,
            mscale_all_dim), as in DeepSeek.
        truncate: whether the ends of the ramp are rounded to whole pairs.

    Example:
        >>> yarn(4.0, 64).frequencies(100.0, 4, torch.tensor(256.0))
        tensor([1.0000, 0.0625])
    """
    require(beta_fast > beta_slow, "yarn", f"beta_fast above beta_slow = {beta_slow}", beta_fast)

    def m(k: float) -> float:
        return 1 + 0.1 * k * math.log(factor) if factor > 1 else 1.0

    if attention_factor is None:
        both = mscale is not None and mscale_all_dim is not None
        attention_factor = m(mscale or 1.0) / m(mscale_all_dim or 1.0) if both else m(1.0)
    return bare(RopeScaling, _yarn, attention_factor=attention_factor)


def _llama3(
    theta: float, n: int, length: Tensor, *, factor: float, low_freq_factor: float,
    high_freq_factor: float, original_max_position_embeddings: int,
) -> Tensor:  # fmt: skip
    own = unscaled(theta, n, length)
    turns = original_max_position_embeddings * own / (2 * math.pi)
    share = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return own * share + own / factor * (1 - share)


@constructor
def llama3(
    factor: Positive, original_max_position_embeddings: PositiveInt,
    *, low_freq_factor: Positive = 1.0, high_freq_factor: Positive = 4.0,
) -> RopeScaling:  # fmt: skip
    """Divide low frequencies and keep high ones, as Llama 3.1 does.

    Pair i turns T f_i / (2 pi) times in T positions of the first training. Its frequency is divided
    by factor up to low_freq_factor turns, and kept from high_freq_factor turns on. Between them,
    the share of the kept frequency grows linearly with the turns. Source: Llama Team, "The Llama 3
    Herd of Models", 2024; the code that came with Llama 3.1.

    Args:
        factor: how many times as long sequences may be.
        original_max_position_embeddings: T, the length of the first training.

    Example:
        >>> llama3(8.0, 64).frequencies(100.0, 4, torch.tensor(256.0))
        tensor([1.0000, 0.0130])
    """
    above = high_freq_factor > low_freq_factor
    wanted = f"high_freq_factor above low_freq_factor = {low_freq_factor}"
    require(above, "llama3", wanted, high_freq_factor)
    return bare(RopeScaling, _llama3)


_Factors: TypeAlias = Annotated[tuple[Positive, ...], NOT_EMPTY]


def _longrope(
    theta: float, n: int, length: Tensor, *, short_factor: tuple[float, ...],
    long_factor: tuple[float, ...], original_max_position_embeddings: int,
) -> Tensor:  # fmt: skip
    fits = len(short_factor) == n // 2
    require(fits, "longrope", f"a factor for each of {n // 2} pairs", len(short_factor))
    short, long = (length.new_tensor(factors) for factors in (short_factor, long_factor))
    is_long = length > original_max_position_embeddings
    return unscaled(theta, n, length) / torch.where(is_long, long, short)


@constructor
def longrope(
    short_factor: _Factors, long_factor: _Factors, factor: Positive,
    original_max_position_embeddings: PositiveInt, *, attention_factor: Positive | None = None,
) -> RopeScaling:  # fmt: skip
    """Divide each frequency by a factor of its own, as Phi-3 does.

    Source: Ding and others, "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens", 2024.

    Args:
        short_factor: one factor for each pair of features, for sequences of up to T positions.
        long_factor: likewise, for longer sequences.
        factor: how many times as long sequences may be.
        original_max_position_embeddings: T, the length of the first training.
        attention_factor: a factor of the rotated features; None for
            sqrt(1 + ln(factor) / ln(T)), or 1 where factor is at most 1.

    Example:
        >>> made = longrope((1.0, 2.0), (4.0, 8.0), 4.0, 9)
        >>> made.frequencies(100.0, 4, torch.tensor(9.0))
        tensor([1.0000, 0.0500])
        >>> made.frequencies(100.0, 4, torch.tensor(10.0))
        tensor([0.2500, 0.0125])
    """
    alike = len(long_factor) == len(short_factor)
    wanted = f"as many numbers in long_factor as in short_factor, {len(short_factor)}"
    require(alike, "longrope", wanted, len(long_factor))
    if attention_factor is None:
        grown = math.log(factor) / math.log(max(original_max_position_embeddings, 2))
        attention_factor = math.sqrt(1 + max(grown, 0.0))
    return bare(RopeScaling, _longrope, attention_factor=attention_factor)
